use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

fn members(each: &[(&str, u64)]) -> BTreeMap<String, Member> {
    each.iter().map(|(name, per_unit)| ((*name).to_owned(), Member { per_unit: *per_unit })).collect()
}

fn fixed(excess: Excess) -> Budget {
    let members = members(&[("app", 20), ("reports", 5)]);
    Budget { limit: Some(200), reserved: 10, excess, provider: None, members }
}

fn chained() -> Budget {
    let provider = Some(Provider { workload: "pool".to_owned(), per_unit: 10 });
    Budget { limit: None, reserved: 10, excess: Excess::Refuse, provider, members: members(&[("app", 20)]) }
}

fn holding(units: &[(&'static str, u32)]) -> impl Fn(&str) -> Held + use<> {
    let known: BTreeMap<&'static str, u32> = units.iter().copied().collect();
    move |name| Held::exactly(known.get(name).copied().unwrap_or(0))
}

#[test]
fn a_raise_that_would_exhaust_the_connections_is_refused_with_the_arithmetic() {
    let held = holding(&[("app", 4), ("reports", 4)]);
    assert_eq!(fixed(Excess::Refuse).ask("app", 8, &held), Answer::Fits);
    assert_eq!(
        fixed(Excess::Refuse).ask("app", 8, &holding(&[("app", 4), ("reports", 6)])),
        Answer::Fits,
        "190 of 190"
    );
    let Answer::Refused { why } = fixed(Excess::Refuse).ask("app", 9, &held) else { panic!("200 are more than 190") };
    assert_eq!(why, "app 9 x 20 = 180 + reports 4 x 5 = 20 is 200 > 190 = 200 - 10 reserved");
    let Answer::Cut { units, .. } = fixed(Excess::Cut).ask("app", 12, &held) else { panic!("8 fit") };
    assert_eq!(units, 8);
    let full = holding(&[("app", 8), ("reports", 6)]);
    assert!(matches!(fixed(Excess::Cut).ask("app", 9, &full), Answer::Refused { .. }), "nothing is left");
    assert_eq!(fixed(Excess::Refuse).ask("app", 3, &holding(&[("app", 40)])), Answer::Fits, "a release always fits");
    assert_eq!(fixed(Excess::Refuse).ask("other", 99, &held), Answer::Fits);
}

#[test]
fn units_on_their_way_count_with_the_most_they_may_be() {
    let held = |name: &str| if name == "reports" { Held { least: 2, most: 22 } } else { Held::exactly(4) };
    assert!(matches!(fixed(Excess::Refuse).ask("app", 5, &held), Answer::Refused { .. }), "reports may be 22 already");
}

#[test]
fn a_provider_goes_up_first_and_down_last() {
    let held = holding(&[("pool", 9), ("app", 4)]);
    assert_eq!(chained().ask("app", 4, &held), Answer::Fits);
    let Answer::Waits { provider, units, why } = chained().ask("app", 9, &held) else { panic!("it waits") };
    assert_eq!((provider.as_str(), units), ("pool", 19));
    assert_eq!(why, "app 9 x 20 = 180 > 80 = pool 9 x 10 - 10 reserved");
    assert_eq!(chained().ask("pool", 19, &held), Answer::Fits);
    // Raised, not ready yet: it still provides what it did.
    let rising = |name: &str| if name == "pool" { Held { least: 9, most: 19 } } else { Held::exactly(4) };
    assert!(matches!(chained().ask("app", 9, &rising), Answer::Waits { units: 19, .. }));
    assert_eq!(chained().ask("app", 9, &holding(&[("pool", 19), ("app", 4)])), Answer::Fits);
    let used = holding(&[("pool", 19), ("app", 9)]);
    assert!(matches!(chained().ask("pool", 9, &used), Answer::Refused { .. }));
    assert_eq!(chained().provider_needs(&used), Some(("pool", 19)));
    let Answer::Cut { units, .. } = chained().ask("pool", 2, &holding(&[("pool", 19), ("app", 4)])) else {
        panic!("to what is used")
    };
    assert_eq!(units, 9);
}

#[test]
fn mistakes_are_named() {
    assert!(fixed(Excess::Cut).problems().is_empty() && chained().problems().is_empty());
    let both = Budget { limit: Some(5), ..chained() };
    let neither = Budget { limit: None, ..fixed(Excess::Cut) };
    let all_reserved = Budget { reserved: 200, ..fixed(Excess::Cut) };
    let nobody = Budget { members: BTreeMap::new(), ..fixed(Excess::Cut) };
    let for_nothing = Budget { members: members(&[("app", 0)]), ..fixed(Excess::Cut) };
    let itself = Budget { members: members(&[("pool", 1)]), ..chained() };
    for budget in [both, neither, all_reserved, nobody, for_nothing, itself] {
        assert_eq!(budget.problems().len(), 1, "{budget:?}");
    }
}

/// A world in which changes take their time, fail half-way, and are asked for in any order.
struct World {
    budgets: Vec<Budget>,
    /// What each workload really has, and what it is changed to.
    real: BTreeMap<&'static str, (u32, Option<u32>)>,
}

impl World {
    fn held(&self, name: &str) -> Held {
        let (units, target) = self.real.get(name).copied().unwrap_or((0, None));
        target.map_or(Held::exactly(units), |to| Held::exactly(units).and(to))
    }

    /// What a change is cut down to, after every budget was asked; none when it is not made.
    fn allowed(&self, name: &str, wanted: u32) -> Option<u32> {
        let held = |other: &str| self.held(other);
        let mut units = wanted;
        for budget in &self.budgets {
            match budget.ask(name, units, &held) {
                Answer::Fits => {}
                Answer::Cut { units: fewer, .. } => units = fewer,
                Answer::Waits { .. } | Answer::Refused { .. } => return None,
            }
        }
        // Cut by one budget, it must still fit the others.
        let fits = |budget: &Budget| budget.ask(name, units, &held) == Answer::Fits;
        self.budgets.iter().all(fits).then_some(units)
    }

    /// The invariant, on what really is.
    fn check(&self, seed: u64, step: usize) {
        for budget in &self.budgets {
            let real = |name: &str| self.real.get(name).map_or(0, |(units, _)| u64::from(*units));
            let used: u64 = budget.members.iter().map(|(name, member)| real(name) * member.per_unit).sum();
            let provided = budget.provider.as_ref().map(|p| real(&p.workload) * p.per_unit);
            let there = budget.limit.or(provided).unwrap_or(0) - budget.reserved;
            assert!(used <= there, "seed {seed}, step {step}: {used} > {there}: {:?}", self.real);
        }
    }
}

/// budget-held: over any order of asking, effects, delays and failures.
#[test]
fn what_is_used_never_exceeds_what_there_is() {
    let (mut raises, mut refusals) = (0, 0);
    for seed in 0..300 {
        let mut random = SmallRng::seed_from_u64(seed);
        let excess = if seed % 2 == 0 { Excess::Cut } else { Excess::Refuse };
        let shared = Budget {
            limit: None,
            provider: Some(Provider { workload: "pool".to_owned(), per_unit: 10 }),
            members: members(&[("app", 20), ("reports", 5)]),
            ..fixed(excess)
        };
        // What the pool opens must in turn fit into the server.
        let server = Budget { limit: Some(400), members: members(&[("pool", 10), ("admin", 3)]), ..fixed(excess) };
        let mut world = World {
            budgets: vec![shared, server],
            real: BTreeMap::from([
                ("pool", (8, None)),
                ("app", (2, None)),
                ("reports", (2, None)),
                ("admin", (1, None)),
            ]),
        };
        let names = ["pool", "app", "reports", "admin"];
        for step in 0..400 {
            let name = names[random.random_range(0..names.len())];
            let (units, under_way) = world.real[name];
            if let Some(to) = under_way {
                // A part of the change has happened, or all of it; or it is given up half-way.
                let (low, high) = (units.min(to), units.max(to));
                let reached = random.random_range(low..=high);
                let left = if reached == to || random.random_bool(0.2) { None } else { Some(to) };
                world.real.insert(name, (reached, left));
            } else {
                let wanted = random.random_range(0..60);
                let allowed = world.allowed(name, wanted);
                raises += usize::from(allowed.is_some_and(|allowed| allowed > units));
                refusals += usize::from(allowed.is_none());
                world.real.insert(name, (units, allowed.filter(|allowed| *allowed != units)));
            }
            world.check(seed, step);
        }
    }
    assert!(raises > 1_000 && refusals > 1_000, "the test must exercise both: {raises}, {refusals}");
}
