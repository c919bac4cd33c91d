//! Schedules against the programs that they are to agree with, and the units
//! that are written.

mod calendar;
mod program;
mod units;
