//! What events do, pooled over workloads: before a workload has seen an event of a kind, what such events did elsewhere is
//! the best guess, and a few of its own are shrunk towards it (partial pooling: Gelman and Hill, 2007).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Class, EventColumns, KnownEvent, PHASES};

/// The prior that the program comes with counts as this many workloads.
const OWN_PRIOR: f64 = 1.0;

/// Responses by kind, length and channel, of one workload or summed over many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Responses(BTreeMap<Class, Response>);

/// Log lifts of the phases, weighted and summed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Response {
    /// A workload counts for nearly one when it has seen many such events, for a half when it has seen one.
    weight: f64,
    workloads: u32,
    sums: [f64; PHASES],
}

impl Responses {
    /// Of a workload whose ridge has these columns and coefficients, by the events that it has seen from `from_us` to
    /// `now_us`. The responses of single names stay its own.
    pub(crate) fn of(
        columns: &EventColumns,
        coefficients: &[f32],
        events: &[&KnownEvent],
        (from_us, now_us): (i64, i64),
    ) -> Self {
        let mut seen: BTreeMap<Class, f64> = BTreeMap::new();
        for event in events.iter().filter(|event| event.starts_at_us >= from_us && event.ends_at_us <= now_us) {
            for class in Class::channel(event).into_iter().chain([Class::whole(event)]) {
                *seen.entry(class).or_default() += 1.0;
            }
        }
        let classes = columns.classes.iter().zip(coefficients.chunks_exact(PHASES));
        let known = classes.filter_map(|(class, lifts)| {
            let count = seen.get(class)?;
            let weight = count / (count + 1.0);
            let mut sums = [0.0; PHASES];
            sums.iter_mut().zip(lifts).for_each(|(sum, lift)| *sum = weight * f64::from(*lift));
            Some((class.clone(), Response { weight, workloads: 1, sums }))
        });
        Self(known.collect())
    }

    /// Of all of these together.
    pub(crate) fn summed<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut total = Self::default();
        for (class, one) in all.flat_map(|responses| &responses.0) {
            let sum = total.0.entry(class.clone()).or_default();
            sum.weight += one.weight;
            sum.workloads += one.workloads;
            sum.sums.iter_mut().zip(one.sums).for_each(|(sum, lift)| *sum += lift);
        }
        total
    }

    /// What is left of a sum without one that is in it.
    pub(crate) fn without(&self, one: &Self) -> Self {
        let mut rest = self.clone();
        for (class, one) in &one.0 {
            let Some(sum) = rest.0.get_mut(class) else { continue };
            sum.weight -= one.weight;
            sum.workloads = sum.workloads.saturating_sub(one.workloads);
            sum.sums.iter_mut().zip(one.sums).for_each(|(sum, lift)| *sum -= lift);
        }
        rest.0.retain(|_, sum| sum.workloads > 0);
        rest
    }

    /// The guess for a class, from `prior`, which the program comes with.
    pub(super) fn shrink(&self, class: &Class, prior: [f64; PHASES]) -> [f64; PHASES] {
        let Some(pooled) = self.0.get(class) else { return prior };
        let mut guess = prior;
        for (lift, sum) in guess.iter_mut().zip(pooled.sums) {
            *lift = (OWN_PRIOR * *lift + sum) / (OWN_PRIOR + pooled.weight);
        }
        guess
    }

    /// Have such events been seen?
    pub(super) fn knows(&self, class: &Class) -> bool {
        self.0.contains_key(class)
    }

    /// How many workloads have seen events such as this one.
    pub(crate) fn workloads(&self, event: &KnownEvent) -> u32 {
        self.0.get(&Class::whole(event)).map_or(0, |pooled| pooled.workloads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn sale(id: &str, day: i64) -> KnownEvent {
        testing::event(id, "sale", day * testing::DAY, 1.0)
    }

    fn of(lift: f32, events: &[KnownEvent]) -> Responses {
        let events: Vec<&KnownEvent> = events.iter().collect();
        let columns = EventColumns::of(&events, i64::MAX / 2, &Responses::default());
        Responses::of(&columns, &vec![lift; columns.len()], &events, (0, i64::MAX / 2))
    }

    #[test]
    fn the_guess_is_that_of_all_workloads_by_what_they_have_seen() {
        let (one, many) = (of(1.0, &[sale("a", 1)]), of(2.0, &[sale("a", 1), sale("b", 2), sale("c", 3)]));
        let all = Responses::summed([&one, &many].into_iter());
        let class = Class::whole(&sale("x", 9));
        // Weights of 1/2 and 3/4, and 1 for the prior: (0.3 + 0.5 + 1.5) / 2.25.
        let guess = all.shrink(&class, [0.3; PHASES]);
        assert!(guess.iter().all(|lift| (lift - 2.3 / 2.25).abs() < 1e-9), "{guess:?}");
        assert_eq!(all.workloads(&sale("x", 9)), 2);
        // Without its own it is what the other has seen.
        assert_eq!(all.without(&one), many);
        assert_eq!(all.without(&one).without(&many), Responses::default());
        let other = Class { kind: "match".to_owned(), ..class };
        assert!(all.shrink(&other, [0.3; PHASES]).iter().all(|lift| (lift - 0.3).abs() < 1e-12));
    }

    #[test]
    fn channels_of_a_kind_are_told_apart_and_pooled_names_are_not() {
        let by = |id, day, channel: &str, name: &str| KnownEvent {
            channel: channel.to_owned(),
            name: name.to_owned(),
            ..sale(id, day)
        };
        let events = [by("a", 1, "email", "May"), by("b", 2, "email", "May"), by("c", 3, "push", ""), sale("d", 4)];
        let seen = of(1.0, &events);
        let classes = [
            Class::channel(&events[0]).expect("email"),
            Class::channel(&events[2]).expect("push"),
            Class::whole(&events[3]),
        ];
        let weights = classes.map(|class| seen.0.get(&class).map(|response| response.weight));
        assert_eq!(weights, [Some(2.0 / 3.0), Some(0.5), Some(0.8)]);
        assert_eq!(seen.0.len(), 3, "{seen:?}");
        // The only channel of a kind is the kind.
        assert_eq!(of(1.0, &events[..2]).0.len(), 1);
        // A first push is forecast by those of the others, a first letter as any sale.
        let (push, letter) = (by("e", 9, "push", ""), by("f", 9, "letter", ""));
        let prior = |event: &KnownEvent, class: Option<Class>| {
            let columns = EventColumns::of(&[event], 0, &seen);
            let place = columns.classes.iter().position(|of| Some(of) == class.as_ref())?;
            columns.prior(&seen).get(place * PHASES).copied()
        };
        assert!(prior(&push, Class::channel(&push)).is_some_and(|lift| (lift - 0.5 / 1.5).abs() < 1e-9));
        assert_eq!(prior(&letter, Class::channel(&letter)), None);
        assert!(prior(&letter, Some(Class::whole(&letter))).is_some_and(|lift| lift > 0.4));
    }

    #[test]
    fn events_that_have_not_ended_teach_nothing() {
        let event = sale("a", 5);
        let columns = EventColumns::of(&[&event], 0, &Responses::default());
        let seen = |from_us, now_us| Responses::of(&columns, &[1.0; PHASES], &[&event], (from_us, now_us));
        assert_eq!(seen(0, event.ends_at_us - 1), Responses::default());
        assert_eq!(seen(event.starts_at_us + 1, i64::MAX), Responses::default());
        assert_eq!(seen(0, event.ends_at_us).workloads(&event), 1);
    }
}
