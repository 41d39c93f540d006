//! The shoppers' pages of the store: home, categories, search, products, accounts, orders. It knows
//! catalogue, accounts, orders and payments by the ports in `contracts` only.
//!
//! | module | what |
//! |---|---|
//! | [`parts`] | what the pages use |
//! | [`words`] | money and times as the two languages write them |
//! | `visitor` | who looks at a page, in which language, and whose form it is |
//! | `design` | the design system: tokens, components, the frame, and a page that shows them |
//! | `pages` | the pages |

mod design;
mod pages;
pub mod parts;
mod visitor;
pub mod words;

pub use pages::operations;
