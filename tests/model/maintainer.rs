//! A prune. What a plan says rests on listings of any age; what is deleted rests
//! on P5 alone.

use super::configuration::{Configuration, Omission};
use super::state::{Actor, Next, State};
use super::store::{
    Chunks, MAINTAINERS, Packs, Removing, S0, Segments, Snapshots, Store, Sweep, Toc, bits,
    pack_of_round, removing_segment, subsets,
};

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Maintainer {
    round: u8,
    at: At,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    P1,
    P1Snapshots {
        listed: Snapshots,
    },
    P3 {
        plan: Sweep,
    },
    P3Packs {
        plan: Sweep,
    },
    P4 {
        plan: Sweep,
    },
    P5 {
        plan: Sweep,
    },
    P5Marks {
        plan: Sweep,
        forgotten: bool,
        confirmed: Snapshots,
    },
    P5Snapshots {
        plan: Sweep,
        needed: Chunks,
    },
    P5Sweeps {
        plan: Sweep,
        needed: Chunks,
        others: Packs,
    },
    P5Segments {
        plan: Sweep,
        needed: Chunks,
        others: Packs,
        listed: Segments,
    },
    /// Only where listings come in another order.
    P5Early {
        plan: Sweep,
        listed: Snapshots,
    },
    P5Packs {
        plan: Sweep,
        needed: Chunks,
        read: Segments,
        exist: Packs,
    },
    /// Deletes: `done` classes are through; `read` are the segments read in P5,
    /// as long as they are of use.
    P6 {
        plan: Sweep,
        read: Segments,
        done: u8,
    },
    P7,
    Done,
}

/// What P6 deletes or puts, class by class.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Confirmations,
    Manifests,
    Removing,
    Packs,
    Superseded,
    /// Only where a step is left out: what should have come before P5.
    LateSweep,
    LateSegment,
}

impl Maintainer {
    pub fn new() -> Maintainer {
        Maintainer { round: 0, at: At::P1 }
    }
}

/// The order of INV-2, and wrong ones.
fn order(configuration: &Configuration) -> &'static [Class] {
    use Class::*;
    let wrong: &[(Omission, &[Class])] = &[
        (Omission::PacksBeforeManifests, &[Removing, Packs, Confirmations, Manifests, Superseded]),
        (Omission::PacksBeforeRemoving, &[Confirmations, Manifests, Packs, Removing, Superseded]),
        (
            Omission::ManifestsBeforeConfirmations,
            &[Manifests, Confirmations, Removing, Packs, Superseded],
        ),
        (
            Omission::SupersededBeforeMerged,
            &[Confirmations, Manifests, Superseded, Removing, Packs],
        ),
        (
            Omission::ListBeforeSweep,
            &[LateSweep, Confirmations, Manifests, Removing, Packs, Superseded],
        ),
        (
            Omission::RepackIndexedLate,
            &[Confirmations, Manifests, Removing, Packs, LateSegment, Superseded],
        ),
    ];
    let chosen = wrong.iter().find(|(omission, _)| configuration.omits(*omission));
    chosen.map_or(&[Confirmations, Manifests, Removing, Packs, Superseded], |(_, order)| order)
}

/// One maintainer's view of a state, and where its steps go.
struct Run<'a> {
    state: &'a State,
    me: usize,
    round: u8,
    configuration: &'a Configuration,
    next: &'a mut Vec<Next>,
}

pub fn steps(state: &State, me: usize, configuration: &Configuration, next: &mut Vec<Next>) {
    let Maintainer { round, at } = state.maintainers[me];
    let mut run = Run { state, me, round, configuration, next };
    let omits = |omission| configuration.omits(omission);
    let store = &state.store;
    match at {
        At::P1 => {
            let listed = store.manifests;
            run.go("P1 lists snapshots", At::P1Snapshots { listed });
            if omits(Omission::ForeignSweep) {
                run.carry_on();
            }
        }
        At::P1Snapshots { listed } => run.plan(listed),
        At::P3 { plan } => {
            let then = if omits(Omission::RepackIndexedLate) {
                At::P4 { plan }
            } else {
                At::P3Packs { plan }
            };
            let pack = pack_of_round(me, round);
            run.change("P3 puts a pack", then, |store| store.packs |= 1 << pack);
        }
        At::P3Packs { plan } => {
            let pack = pack_of_round(me, round);
            run.change("P3 puts a segment", At::P4 { plan }, |store| store.segments |= 1 << pack);
        }
        At::P4 { plan } if omits(Omission::ListBeforeSweep) => {
            run.go("P4 is put off", At::P5 { plan });
        }
        At::P4 { plan } => {
            run.change("P4 puts its sweep", At::P5 { plan }, |store| store.sweeps[me] = plan);
        }
        At::P5 { plan } if omits(Omission::SnapshotsBeforeMarks) => {
            let listed = store.manifests;
            run.go("P5 lists snapshots", At::P5Early { plan, listed });
        }
        At::P5Early { plan, listed } => {
            let step = "P5 lists marks and confirmations";
            run.decide(step, plan, store.forgotten, store.confirmed, listed);
        }
        At::P5 { plan } => {
            let (mut forgotten, mut confirmed) = (store.forgotten, store.confirmed);
            if omits(Omission::NoMarksAgain) {
                (forgotten, confirmed) = (true, 1 << S0);
            }
            let then = At::P5Marks { plan, forgotten, confirmed };
            run.go("P5 lists marks and confirmations", then);
        }
        At::P5Marks { plan, forgotten, confirmed } => {
            let blind = omits(Omission::NoSnapshotsAgain);
            let listed = if blind { 0 } else { store.manifests };
            run.decide("P5 lists snapshots", plan, forgotten, confirmed, listed);
        }
        At::P5Snapshots { plan, needed } if omits(Omission::PruneSweepsLast) => {
            let (read, exist) = (store.segments, store.packs);
            let then = At::P5Packs { plan, needed, read, exist };
            run.go("P5 reads segments, lists packs", then);
        }
        At::P5Packs { plan, needed, read, exist } => {
            let others = store.condemned(Some(me));
            let elsewhere = store.index(read) & exist & !others & !plan.packs;
            run.spare("P5 lists other sweeps", plan, needed, elsewhere, read);
        }
        At::P5Snapshots { plan, needed } => {
            let blind = omits(Omission::NoSweepsAgain);
            let others = if blind { 0 } else { store.condemned(Some(me)) };
            run.go("P5 lists other sweeps", At::P5Sweeps { plan, needed, others });
        }
        At::P5Sweeps { plan, needed, others } => {
            let listed = store.segments;
            run.go("P5 lists segments", At::P5Segments { plan, needed, others, listed });
        }
        At::P5Segments { plan, needed, others, listed } => {
            let exist = if omits(Omission::IndexIsExistence) { !0 } else { store.packs };
            for read in store.readings(listed) {
                let mut indexed = store.index(read);
                if omits(Omission::RepackIndexedLate) {
                    indexed |= 1 << pack_of_round(me, round);
                }
                let elsewhere = indexed & exist & !others & !plan.packs;
                let read = if omits(Omission::MergeSupersedesUnread) { listed } else { read };
                run.spare("P5 reads segments, lists packs", plan, needed, elsewhere, read);
            }
        }
        At::P6 { plan, read, done } => run.delete(plan, read, done),
        At::P7 => {
            let again = round + 1 < configuration.rounds[me];
            let then = if again {
                Maintainer { round: round + 1, at: At::P1 }
            } else {
                Maintainer { round, at: At::Done }
            };
            let mut state = *state;
            state.maintainers[me] = then;
            state.store.sweeps[me] = Sweep::default();
            next.push(Next { actor: Actor::Maintainer(me), step: "P7 removes its sweep", state });
        }
        At::Done => {}
    }
}

/// Anyone removes a plan when nothing it names exists.
pub fn plans_done(state: &State, configuration: &Configuration, next: &mut Vec<Next>) {
    for at in 0..MAINTAINERS {
        let plan = state.store.sweeps[at];
        let stands =
            plan.packs & state.store.packs != 0 || plan.manifests & state.store.manifests != 0;
        let names_any = plan != Sweep::default();
        if names_any && (!stands || configuration.omits(Omission::ForeignPlanRemoval)) {
            let mut state = *state;
            state.store.sweeps[at] = Sweep::default();
            next.push(Next { actor: Actor::Anyone, step: "removes a sweep", state });
        }
    }
}

impl Run<'_> {
    fn go(&mut self, step: &'static str, at: At) {
        self.change(step, at, |_| {});
    }

    fn change(&mut self, step: &'static str, at: At, change: impl Fn(&mut Store)) {
        let mut state = *self.state;
        state.maintainers[self.me] = Maintainer { round: self.round, at };
        change(&mut state.store);
        self.next.push(Next { actor: Actor::Maintainer(self.me), step, state });
    }

    /// P1 and P2: every plan that the listings justify. Any unconfirmed manifest
    /// may have been silent for long.
    fn plan(&mut self, listed: Snapshots) {
        let store = &self.state.store;
        let forgotten = if store.forgotten { 1 << S0 } else { 0 };
        let may_go = listed & (forgotten | !store.confirmed);
        for manifests in subsets(may_go.into()) {
            self.plan_packs(listed, manifests as Snapshots);
        }
    }

    fn plan_packs(&mut self, listed: Snapshots, manifests: Snapshots) {
        let store = &self.state.store;
        let needed = store.used_by(listed & !manifests);
        let condemned = store.condemned(None);
        let indexed = store.index(store.segments);
        let mut dead = 0;
        for pack in bits(store.packs) {
            let packs = 1 << pack;
            let plan = Sweep { packs, manifests };
            let toc = store.tocs[pack];
            let used = toc.used_by(needed);
            if used.is_empty() {
                dead |= packs;
                self.go("P2 plans to remove a dead pack", At::P4 { plan });
                continue;
            }
            // of a pack that another plan names, what is needed is repacked whole
            if used != toc || condemned & packs != 0 {
                let new = pack_of_round(self.me, self.round);
                self.change("P2 plans to repack", At::P3 { plan }, |store| store.tocs[new] = used);
            }
            let elsewhere = store.held_by(indexed & !condemned & !packs);
            if used.is_within(elsewhere) {
                self.go("P2 plans to remove a doubled pack", At::P4 { plan });
            }
        }
        if dead.count_ones() > 1 {
            let plan = Sweep { packs: dead, manifests };
            self.go("P2 plans to remove all dead packs", At::P4 { plan });
        }
        if manifests != 0 || self.configuration.merging {
            let plan = Sweep { packs: 0, manifests };
            self.go("P2 plans to remove no pack", At::P4 { plan });
        }
    }

    /// P5, once marks, confirmations and snapshots were listed: which manifests
    /// stay after all, and what is needed.
    fn decide(
        &mut self,
        step: &'static str,
        plan: Sweep,
        forgotten: bool,
        confirmed: Snapshots,
        listed: Snapshots,
    ) {
        let stays = if forgotten { confirmed & !(1 << S0) } else { confirmed | 1 << S0 };
        let manifests = plan.manifests & !stays;
        let needed = self.state.store.used_by(listed & !manifests);
        let plan = Sweep { manifests, ..plan };
        self.go(step, At::P5Snapshots { plan, needed });
    }

    /// P5, in the end: which packs stay after all (INV-7), when `elsewhere` are
    /// the packs that others may rely on.
    fn spare(
        &mut self,
        step: &'static str,
        plan: Sweep,
        needed: Chunks,
        elsewhere: Packs,
        read: Segments,
    ) {
        let store = &self.state.store;
        let held = store.held_by(elsewhere);
        let may_go = |pack: usize| {
            let mut used = store.tocs[pack].used_by(needed);
            if self.configuration.omits(Omission::PruneForgetsPages) {
                used = Toc { pages: 0, ..used };
            }
            used.is_within(held)
        };
        let packs = bits(plan.packs & store.packs).filter(|pack| may_go(*pack));
        let packs = packs.fold(0, |packs, pack| packs | 1 << pack);
        let plan = Sweep { packs, ..plan };
        let read = if self.configuration.merging { read } else { 0 };
        self.then_delete(step, plan, read, 0, |_| {});
    }

    /// Goes on with the first class, from `done`, that has something to do.
    fn then_delete(
        &mut self,
        step: &'static str,
        plan: Sweep,
        read: Segments,
        done: u8,
        change: impl Fn(&mut Store),
    ) {
        let order = order(self.configuration);
        let mut done = done;
        while let Some(class) = order.get(usize::from(done)) {
            let idle = match class {
                Class::Confirmations | Class::Manifests => plan.manifests == 0,
                Class::Removing => plan.packs == 0 && read == 0,
                Class::Packs => plan.packs == 0,
                Class::Superseded => read == 0,
                Class::LateSweep | Class::LateSegment => false,
            };
            if !idle {
                return self.change(step, At::P6 { plan, read, done }, change);
            }
            done += 1;
        }
        self.change(step, At::P7, change);
    }

    /// P6.
    fn delete(&mut self, plan: Sweep, read: Segments, done: u8) {
        let (me, round) = (self.me, self.round);
        let after = done + 1;
        match order(self.configuration)[usize::from(done)] {
            Class::Confirmations => {
                let step = "P6 deletes confirmations";
                let gone = plan.manifests;
                self.then_delete(step, plan, read, after, |store| store.confirmed &= !gone);
            }
            Class::Manifests => {
                let step = "P6 deletes manifests";
                let gone = plan.manifests;
                self.then_delete(step, plan, read, after, |store| store.manifests &= !gone);
            }
            Class::Removing => self.remove_from_index(plan, read, after),
            Class::Packs => self.delete_packs(plan, read, done),
            Class::Superseded => {
                let gone = self.superseded(read);
                let step = "P6 deletes superseded segments";
                self.then_delete(step, plan, read, after, |store| store.segments &= !gone);
            }
            Class::LateSweep => {
                let step = "P4 puts its sweep, after P5";
                self.then_delete(step, plan, read, after, |store| store.sweeps[me] = plan);
            }
            Class::LateSegment => {
                let segment = 1 << pack_of_round(me, round);
                let step = "P3 puts a segment, after P6";
                let new = self.state.store.packs & segment;
                self.then_delete(step, plan, read, after, |store| store.segments |= new);
            }
        }
    }

    /// Puts the segment that removes the packs; it may merge all that was read.
    fn remove_from_index(&mut self, plan: Sweep, read: Segments, after: u8) {
        let store = &self.state.store;
        let segment = removing_segment(self.me, self.round);
        let own = Removing { lists: 0, removes: plan.packs, supersedes: 0 };
        if plan.packs == 0 {
            self.then_delete("P6 leaves the index as it is", plan, read, after, |_| {});
        } else {
            self.then_delete("P6 puts the removing segment", plan, read, after, |store| {
                store.put_removing(segment, own);
            });
        }
        if self.configuration.merging {
            let mut merged = store.merge(read);
            if self.configuration.omits(Omission::MergeForgetsRemoves) {
                merged.removes = 0;
            }
            merged.removes |= plan.packs;
            self.then_delete("P6 puts a merged segment", plan, read, after, |store| {
                store.put_removing(segment, merged);
            });
        }
    }

    /// One by one, in any order.
    fn delete_packs(&mut self, plan: Sweep, read: Segments, done: u8) {
        let left = plan.packs & self.state.store.packs;
        if left == 0 {
            self.then_delete("P6 finds its packs gone", plan, read, done + 1, |_| {});
        }
        for pack in bits(left) {
            let step = "P6 deletes a pack";
            if left.count_ones() > 1 {
                self.change(step, At::P6 { plan, read, done }, |store| store.packs &= !(1 << pack));
            } else {
                self.then_delete(step, plan, read, done + 1, |store| store.packs &= !(1 << pack));
            }
        }
    }

    /// What an earlier run superseded.
    fn superseded(&self, read: Segments) -> Segments {
        let store = &self.state.store;
        let own = 1 << removing_segment(self.me, self.round) & store.segments;
        if self.configuration.omits(Omission::SupersededAtOnce) {
            store.superseded(read | own)
        } else if self.configuration.omits(Omission::SupersededBeforeMerged) {
            read
        } else {
            store.superseded(read)
        }
    }

    /// Only where a step is left out: deletes what another's sweep names.
    fn carry_on(&mut self) {
        for at in 0..MAINTAINERS {
            let plan = self.state.store.sweeps[at];
            if at != self.me && plan != Sweep::default() {
                self.then_delete("carries on another's sweep", plan, 0, 0, |_| {});
            }
        }
    }
}
