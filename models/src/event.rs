//! Event signals as models see them, and their response kernel.

mod responses;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use responses::Responses;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// Events of this length or more act over their whole span, in parts of a day; shorter ones around start and end.
const LONG_US: i64 = 12 * HOUR_US;
/// How far an event can act before its start and behind its end.
const BEFORE_US: i64 = 24 * HOUR_US;
const BEHIND_US: i64 = 24 * HOUR_US;
/// So far around an event load is less certain than usual: people go away before a holiday and come back after it.
pub(crate) const NEAR_US: i64 = 48 * HOUR_US;
/// Names with a response of their own: those that have returned, the most frequent first.
const NAMES: usize = 24;
/// Channels with a response of their own, those that were seen most first.
const CHANNELS: usize = 8;

/// Where a step is, as seen from the events that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum When {
    /// Far from all events.
    #[default]
    Quiet,
    /// Within two days before or behind an event; of steps of a day none is.
    Near,
    /// Within an event.
    Event,
}

impl When {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Quiet, Self::Near, Self::Event];

    /// Of a step, by these events.
    pub(crate) fn of(events: &[&KnownEvent], start_us: i64, step_us: i64) -> Self {
        let is_near = |event: &&KnownEvent| {
            start_us < event.ends_at_us + NEAR_US && start_us + step_us > event.starts_at_us - NEAR_US
        };
        if events.iter().any(|event| event.flags(start_us, step_us)) {
            Self::Event
        } else if step_us < DAY_US && events.iter().any(is_near) {
            Self::Near
        } else {
            Self::Quiet
        }
    }

    /// Of a step of which only this is known.
    pub(crate) fn of_flag(is_event: bool) -> Self {
        if is_event { Self::Event } else { Self::Quiet }
    }

    /// Its place among all.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// One revision of an event signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownEvent {
    /// The signal's id.
    pub id: String,
    /// Highest wins.
    pub revision: u64,
    /// Such as `match`; events of a kind share a response.
    pub kind: String,
    /// What people call it; events whose names differ in their digits alone return, and are alike. May be empty.
    pub name: String,
    /// Such as `email`; may be empty.
    pub channel: String,
    /// Relative size; 1 is an ordinary event.
    pub weight: f64,
    /// People reached.
    pub audience_size: Option<f64>,
    /// From when on it may be used, in microseconds.
    pub announced_at_us: i64,
    /// Start, in microseconds.
    pub starts_at_us: i64,
    /// End, in microseconds.
    pub ends_at_us: i64,
    /// The event will not take place.
    pub cancelled: bool,
}

impl KnownEvent {
    /// Long events act over their whole span, short ones around start and end.
    pub(crate) fn is_long(&self) -> bool {
        self.ends_at_us - self.starts_at_us >= LONG_US
    }

    /// May it act within `[from_us, to_us)`?
    pub(crate) fn acts(&self, from_us: i64, to_us: i64) -> bool {
        self.starts_at_us - BEFORE_US < to_us && self.ends_at_us + BEHIND_US > from_us
    }

    /// Its name without digits and case: what this year's event has in common with that of the year before.
    fn series(&self) -> String {
        let letters: String = self.name.chars().filter(|letter| !letter.is_numeric()).collect();
        letters.trim().to_lowercase()
    }

    /// Is a step within the event, with an hour before and behind a short one?
    pub(crate) fn flags(&self, start_us: i64, step_us: i64) -> bool {
        let margin_us = if self.is_long() { 0 } else { HOUR_US };
        start_us < self.ends_at_us + margin_us && start_us + step_us > self.starts_at_us - margin_us
    }

    /// Parts of the response: from and to, in microseconds of event time.
    fn phases(&self) -> [(i64, i64); PHASES] {
        let (start, end) = (self.starts_at_us, self.ends_at_us);
        if self.is_long() {
            let part = |k: i64| (start + 4 * k * HOUR_US, (start + 4 * (k + 1) * HOUR_US).min(end));
            // Days behind the first act as the last part of the day does.
            return [
                (start - BEFORE_US, start),
                part(0),
                part(1),
                part(2),
                part(3),
                part(4),
                (start + 20 * HOUR_US, end),
                (end, end + BEHIND_US),
            ];
        }
        [
            (start - 9 * HOUR_US, start - 3 * HOUR_US),
            (start - 3 * HOUR_US, start - HOUR_US),
            (start - HOUR_US, start),
            (start, (start + HOUR_US).min(end)),
            (start + HOUR_US, (start + 2 * HOUR_US).min(end)),
            (start + 2 * HOUR_US, end),
            (end, end + 2 * HOUR_US),
            (end + 2 * HOUR_US, end + 5 * HOUR_US),
        ]
    }
}

/// Parts of a response.
pub(crate) const PHASES: usize = 8;

/// Log lift that a short event of weight 1 is expected to have before any was seen: a launch, sale, campaign or match
/// raises load, most towards its end; what a holiday or a maintenance does is not known beforehand.
const PRIOR_LIFT: [f64; PHASES] = [0.0, 0.05, 0.2, 0.4, 0.5, 0.6, 0.4, 0.15];

/// All revisions that were told, and what of them was known when.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct EventBook {
    revisions: BTreeMap<String, Vec<KnownEvent>>,
}

impl EventBook {
    pub(crate) fn add(&mut self, event: KnownEvent) {
        let revisions = self.revisions.entry(event.id.clone()).or_default();
        if !revisions.contains(&event) {
            revisions.push(event);
            revisions.sort_by_key(|revision| revision.revision);
        }
    }

    /// Events known at `at_us` that are near to `[from_us, to_us)`.
    pub(crate) fn near(&self, at_us: i64, from_us: i64, to_us: i64) -> Vec<&KnownEvent> {
        self.known(at_us, from_us - NEAR_US, to_us + NEAR_US)
    }

    /// Events known at `at_us` that may act in `[from_us, to_us)`.
    pub(crate) fn known(&self, at_us: i64, from_us: i64, to_us: i64) -> Vec<&KnownEvent> {
        let newest =
            |revisions: &'_ Vec<KnownEvent>| revisions.iter().rposition(|revision| revision.announced_at_us <= at_us);
        self.revisions
            .values()
            .filter_map(|revisions| newest(revisions).and_then(|at| revisions.get(at)))
            .filter(|event| !event.cancelled)
            .filter(|event| event.acts(from_us, to_us))
            .collect()
    }
}

/// Events that share a response: of one kind, all long or all short, and all of these or some.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Class {
    kind: String,
    is_long: bool,
    of: Of,
}

/// Which events of a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Of {
    /// All of them.
    All,
    /// Those that reach people by this channel.
    Channel(String),
    /// Those that return under one name.
    Name(String),
}

impl Class {
    fn new(event: &KnownEvent, of: Of) -> Self {
        Self { kind: event.kind.clone(), is_long: event.is_long(), of }
    }

    /// All events of the kind.
    fn whole(event: &KnownEvent) -> Self {
        Self::new(event, Of::All)
    }

    /// Those of its channel, when it has one.
    fn channel(event: &KnownEvent) -> Option<Self> {
        (!event.channel.is_empty()).then(|| Self::new(event, Of::Channel(event.channel.clone())))
    }

    /// Those of its name, when it has one.
    fn name(event: &KnownEvent) -> Option<Self> {
        (!event.name.is_empty()).then(|| Self::new(event, Of::Name(event.series())))
    }
}

/// The response's columns: one set of phases for each class of events. What a channel or a name adds to its kind is learned
/// apart and shrunk towards nothing, so that a name seen once says a little and one seen often says all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EventColumns {
    classes: Vec<Class>,
}

/// Events of a class: those that have ended, and all.
type Counts = BTreeMap<Class, (usize, usize)>;

impl EventColumns {
    /// Columns for the events of a training set that ends at `now_us`.
    pub(crate) fn of(events: &[&KnownEvent], now_us: i64, elsewhere: &Responses) -> Self {
        let count = |class: fn(&KnownEvent) -> Option<Class>| {
            let mut counts = Counts::new();
            for (event, class) in events.iter().filter_map(|event| Some((event, class(event)?))) {
                let (ended, all) = counts.entry(class).or_default();
                *all += 1;
                *ended += usize::from(event.ends_at_us <= now_us);
            }
            counts
        };
        let kinds = count(|event| Some(Class::whole(event)));
        let mut named = count(Class::name);
        named.retain(|_, (ended, all)| *ended > 0 && *all > 1);
        // The only channel of a kind has nothing of its own, unless others have seen more of them.
        let mut channels = count(Class::channel);
        channels.retain(|class, (_, all)| {
            let kind = Class { of: Of::All, ..class.clone() };
            kinds.get(&kind).is_some_and(|(_, of_kind)| *all < *of_kind) || elsewhere.knows(class)
        });
        let mut classes: Vec<Class> = kinds.into_keys().collect();
        for (counts, most) in [(channels, CHANNELS), (named, NAMES)] {
            let mut frequent: Vec<_> = counts.into_iter().collect();
            frequent.sort_by_key(|(_, (ended, _))| std::cmp::Reverse(*ended));
            classes.extend(frequent.into_iter().take(most).map(|(class, _)| class));
        }
        classes.sort();
        Self { classes }
    }

    pub(crate) fn len(&self) -> usize {
        self.classes.len() * PHASES
    }

    /// What is believed of each column before any event was seen, by what such events did at other workloads.
    pub(crate) fn prior(&self, elsewhere: &Responses) -> Vec<f64> {
        self.classes
            .iter()
            .flat_map(|class| {
                let raises = !class.is_long && matches!(class.kind.as_str(), "campaign" | "launch" | "sale" | "match");
                let is_told = raises && class.of == Of::All;
                elsewhere.shrink(class, PRIOR_LIFT.map(|lift| if is_told { lift } else { 0.0 }))
            })
            .collect()
    }

    /// Where these events act, for any number of rows.
    pub(crate) fn acting(&self, events: &[&KnownEvent]) -> Vec<Acting> {
        let of = |event: &&KnownEvent| {
            let find = |class: Option<Class>| self.classes.binary_search(&class?).ok();
            Acting {
                classes: [Some(Class::whole(event)), Class::channel(event), Class::name(event)].map(find),
                weight: event.weight,
                from_us: event.starts_at_us - BEFORE_US,
                to_us: event.ends_at_us + BEHIND_US,
                phases: event.phases(),
            }
        };
        events.iter().map(of).collect()
    }

    /// The row of one step. Events of a class that overlap add their squares: two at once are not twice one.
    pub(crate) fn row(events: &[Acting], start_us: i64, step_us: i64, row: &mut [f64]) {
        row.fill(0.0);
        let end_us = start_us + step_us;
        for event in events.iter().filter(|event| event.from_us < end_us && event.to_us > start_us) {
            for class in event.classes.into_iter().flatten() {
                for (phase, (from_us, to_us)) in event.phases.into_iter().enumerate() {
                    let overlap_us = end_us.min(to_us) - start_us.max(from_us);
                    if overlap_us > 0
                        && let Some(cell) = row.get_mut(class * PHASES + phase)
                    {
                        *cell += event.weight * share(overlap_us, step_us);
                    }
                }
            }
        }
        for cell in row.iter_mut() {
            *cell = cell.sqrt();
        }
    }
}

/// An event and the columns it acts on.
#[derive(Clone, Debug)]
pub(crate) struct Acting {
    /// Those of its kind, of its channel and of its name.
    classes: [Option<usize>; 3],
    weight: f64,
    from_us: i64,
    to_us: i64,
    phases: [(i64, i64); PHASES],
}

#[expect(clippy::cast_precision_loss, reason = "lengths of steps")]
fn share(part_us: i64, step_us: i64) -> f64 {
    part_us as f64 / step_us as f64
}
