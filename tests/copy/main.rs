//! Copies between repositories that have nothing in common but what is copied.

#[path = "../support/mod.rs"]
mod support;

mod beside;
mod damage;
mod program;
mod second;
mod what_goes_along;
mod work;
mod world;
