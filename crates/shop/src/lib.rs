//! The shoppers' pages of the store: home, categories, search, products, accounts, orders. It knows
//! catalogue, accounts, orders and payments by the ports in `contracts` only.
//!
//! | module | what |
//! |---|---|
//! | [`parts`] | what the pages use |
//! | `visitor` | who looks at a page, in which language, and whose form it is |
//! | `countries` | what countries are called |
//! | `design` | the design system: tokens, components, the frame, and a page that shows them |
//! | `pages` | the pages |

mod countries;
mod design;
mod pages;
pub mod parts;
mod visitor;

pub use pages::{PROVIDER_CALLBACK, RETURN_PATH, operations, problem_page};
use web::words;
