//! Many runs, and that a seed always makes the same one.

use std::time::Instant;

use crate::run::{Plot, Ran, alone, run};

/// Runs of one test.
const RUNS: u64 = 600;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How many times as much is to be done.
pub fn times() -> u64 {
    if std::env::var("ESKER_TEST_LONG").is_ok_and(|value| value == "yes") { 20 } else { 1 }
}

pub fn tell(seed: u64, ran: &Ran) {
    for step in &ran.trace {
        eprintln!("{step}");
    }
    eprintln!("seed {seed}: {} steps, {} tasks done", ran.trace.len(), ran.done);
}

#[test]
fn no_interleaving_loses_a_good_snapshot() {
    let _alone = alone();
    if let Some(seed) = setting("ESKER_SEED") {
        let ran = run(seed, Plot::new(seed));
        tell(seed, &ran);
        assert_eq!(ran.wrong, None, "seed {seed}");
        return;
    }
    let from = setting("ESKER_FIRST_SEED").unwrap_or(0);
    let runs = setting("ESKER_RUNS").unwrap_or(RUNS * times());
    let began = Instant::now();
    let (mut steps, mut kept, mut failed) = (0, 0, Vec::new());
    for seed in from..from + runs {
        let ran = run(seed, Plot::new(seed));
        steps += ran.trace.len();
        kept += ran.kept;
        if let Some(wrong) = &ran.wrong {
            eprintln!("seed {seed}: {wrong}");
            failed.push(seed);
            if failed.len() == 1 {
                tell(seed, &ran);
            }
        }
    }
    let seconds = began.elapsed().as_secs();
    println!("{runs} interleavings, {steps} steps, {kept} snapshots kept, {seconds} s");
    assert!(
        failed.is_empty(),
        "{} seeds failed; replay with ESKER_SEED={}",
        failed.len(),
        failed[0]
    );
}

#[test]
fn a_seed_always_makes_the_same_run() {
    let _alone = alone();
    for seed in 0..30 {
        let first = run(seed, Plot::new(seed));
        let second = run(seed, Plot::new(seed));
        let differs = first.trace.iter().zip(&second.trace).position(|(a, b)| a != b);
        let at = differs.unwrap_or(0);
        let around = |ran: &Ran| ran.trace.iter().skip(at).take(3).cloned().collect::<Vec<_>>();
        assert!(
            differs.is_none() && first.trace.len() == second.trace.len(),
            "seed {seed}, step {at}: {:#?} {:#?}",
            around(&first),
            around(&second)
        );
    }
}
