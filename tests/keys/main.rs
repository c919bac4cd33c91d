//! Who holds which key can do what, and what is left when somebody leaves.

mod changes;
mod forgeries;
mod leaving;
mod prunes;
mod roles;
mod support;
