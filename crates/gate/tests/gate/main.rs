//! The tests of the gate over real sockets, in one binary: a binary each would link everything
//! again. What counts the allocations of the whole process stands in a binary of its own.

mod answered_alone;
mod attempt_body_corpus;
mod challenge;
mod client;
mod command_keys;
mod cors;
mod denied;
mod drain;
mod enter;
mod fake;
mod filter;
mod flood_before_shoppers;
mod hostile;
mod http;
mod memory_mark;
mod mutants;
mod page;
mod proxy;
mod proxy_protocol;
mod request_head_corpus;
mod return_url;
mod risk;
mod second_class;
mod smuggling;
mod split_anywhere;
mod strategy;
mod tls;
