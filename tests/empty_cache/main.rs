//! Reading on a machine that knows nothing yet: how much is asked of the store,
//! and that what is found is right whatever happens to the segments meanwhile.

mod base;
mod counts;
mod trouble;

#[path = "../support/mod.rs"]
mod support;
