//! What an event signal does to the load: the forecast with it over the forecast without it, by the same models and from
//! the same origin, before the event's first effects. For past events also what came, over that forecast without it.
//!
//! The interval of 80 % comes from the spread of past events of the kind: how far what came was from what the models give
//! for them now, on the log scale, as the prediction interval of a normal distribution with conjugate prior (Student's t).
//! Before any was seen that prior stands alone: as if two events had been seen, half as much again off.

use super::{Abstention, Engine};
use crate::KnownEvent;
use crate::ensemble::Shares;
use crate::family::Family;
use crate::scales::unlog;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// A lift is looked at from this long before the start, short and long events: the models look further back.
const LEAD_US: (i64, i64) = (3 * HOUR_US, 24 * HOUR_US);
/// Load stays up this long behind a short event.
const TAIL_US: i64 = 2 * HOUR_US;
/// What the models look at before an origin.
const BACK_US: i64 = 15 * DAY_US;
/// A lift beyond this many steps is not looked at.
const MAX_STEPS: i64 = 20_000;
/// Past events of a kind that are looked at, the newest.
const MAX_PAST: usize = 60;
/// The prior's deviation on the log scale, and the events that it counts for.
const PRIOR_DEVIATION: f64 = 0.405;
const PRIOR_EVENTS: f64 = 2.0;
/// An event may last this many times as long as any seen before and still be like them.
const LONGER: i64 = 2;
/// An event of a kind, when none has been seen.
const ORDINARY_US: i64 = 2 * HOUR_US;

/// Whose lift is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiftOf<'a> {
    /// Every signal that is known.
    All,
    /// The signal of that id.
    Signal(&'a str),
    /// An event of that kind as the past ones were at the median, soon.
    Kind(&'a str),
}

/// How many times the load without the event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lift {
    /// At the step with the most load within the event's window.
    pub peak: f64,
    /// Over the whole window: the event, and two hours behind a short one.
    pub window: f64,
}

/// A lift and its interval of 80 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiftRange {
    /// By the forecast.
    pub lift: f64,
    /// In one of ten events it is lower.
    pub low: f64,
    /// In one of ten events it is higher.
    pub high: f64,
}

/// What a past event did.
#[derive(Clone, Debug, PartialEq)]
pub struct PastLift {
    /// The event.
    pub event: KnownEvent,
    /// What the models give for it now.
    pub expected: Lift,
    /// What came, over the forecast without it.
    pub observed: Lift,
}

/// What a signal is expected to do, or has done.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalLift {
    /// The event.
    pub event: KnownEvent,
    /// At the peak.
    pub peak: LiftRange,
    /// Over the window.
    pub window: LiftRange,
    /// What came, when it is over.
    pub observed: Option<Lift>,
    /// The past events of the kind that it rests on, the newest first.
    pub past: Vec<PastLift>,
    /// In what it is unlike any seen before; empty when it is like them.
    pub unlike: String,
}

impl Engine {
    /// What signals do to the load, in order of their starts.
    ///
    /// # Errors
    /// Without a fitted model nothing can be said.
    pub fn lifts(&self, of: LiftOf<'_>) -> Result<Vec<SignalLift>, Abstention> {
        let parts = self.parts()?;
        let (now_us, all) = (self.history.end_us(), (i64::MIN / 2, i64::MAX / 2));
        let known = self.book.known(now_us, all.0, all.1);
        let made_up = if let LiftOf::Kind(kind) = of { Some(self.usual_of(kind, &known)) } else { None };
        let wanted: Vec<&KnownEvent> = match of {
            LiftOf::All => known.clone(),
            LiftOf::Signal(id) => known.iter().copied().filter(|event| event.id == id).collect(),
            LiftOf::Kind(_) => made_up.iter().collect(),
        };
        let is_class_wanted = |event: &KnownEvent| wanted.iter().any(|wanted| is_alike(wanted, event));
        let mut past: Vec<PastLift> = Vec::new();
        let mut ended: Vec<&KnownEvent> = known.iter().copied().filter(|event| is_class_wanted(event)).collect();
        ended.sort_by_key(|event| std::cmp::Reverse(event.starts_at_us));
        for event in ended {
            if past.iter().filter(|seen| is_alike(&seen.event, event)).count() < MAX_PAST {
                past.extend(self.past_lift(&parts, &known, event));
            }
        }
        let mut lifts: Vec<SignalLift> =
            wanted.iter().filter_map(|event| self.signal_lift(&parts, &known, event, &past)).collect();
        lifts.sort_by(|a, b| (a.event.starts_at_us, &a.event.id).cmp(&(b.event.starts_at_us, &b.event.id)));
        Ok(lifts)
    }

    /// The families that are served, and what each counts for within events.
    fn parts(&self) -> Result<Vec<(Family, f64)>, Abstention> {
        let fitted = || self.tracks.iter().filter(|track| track.fitted.is_some());
        let parts: Vec<(Family, f64)> = match self.tracks.first().map(|champion| champion.family) {
            Some(Family::Ensemble) => {
                let members = fitted()
                    .filter_map(|track| Some((track.family.name(), track.recent.clone(), track.family.prior()?)));
                let shares = Shares::of(members);
                let share = |track: &crate::champion::Track| (track.family, shares.within_events(track.family.name()));
                fitted().map(share).filter(|(_, share)| *share > 0.0).collect()
            }
            _ => fitted().take(1).map(|track| (track.family, 1.0)).collect(),
        };
        if parts.is_empty() {
            return Err(Abstention { reason: "no model has been fitted yet: too little history".to_owned() });
        }
        Ok(parts)
    }

    fn signal_lift(
        &self,
        parts: &[(Family, f64)],
        known: &[&KnownEvent],
        event: &KnownEvent,
        past: &[PastLift],
    ) -> Option<SignalLift> {
        let own = past.iter().find(|seen| seen.event.id == event.id);
        let expected = match own {
            Some(own) => own.expected,
            None => self.expected(parts, known, event)?.0,
        };
        let rests_on: Vec<PastLift> =
            past.iter().filter(|seen| is_alike(&seen.event, event) && seen.event.id != event.id).cloned().collect();
        let (unlike, stretched) = unlikeness(event, &rests_on, self.elsewhere().workloads(event));
        let range = |lift: f64, of: fn(&Lift) -> f64| {
            let off = rests_on.iter().map(|seen| (of(&seen.observed) / of(&seen.expected)).ln());
            interval(lift, &off.collect::<Vec<_>>(), stretched)
        };
        Some(SignalLift {
            peak: range(expected.peak, |lift| lift.peak),
            window: range(expected.window, |lift| lift.window),
            observed: own.map(|own| own.observed),
            past: rests_on,
            unlike,
            event: event.clone(),
        })
    }

    /// What an event of the past did; none while it lasts, and when too little was seen before or during it.
    fn past_lift(&self, parts: &[(Family, f64)], known: &[&KnownEvent], event: &KnownEvent) -> Option<PastLift> {
        let (from_us, to_us) = window(event);
        if to_us > self.history.end_us() || origin_of(event) < self.history.start_us() + DAY_US {
            return None;
        }
        let (expected, without) = self.expected(parts, known, event)?;
        let step_us = self.config.step_us;
        let starts = (0..).map(|k: i64| align(from_us, step_us) + k * step_us);
        let seen: Vec<(f64, f64)> =
            starts.zip(&without).filter_map(|(at_us, without)| Some((self.history.at(at_us)?, *without))).collect();
        if 2 * seen.len() < without.len() {
            return None;
        }
        Some(PastLift { event: event.clone(), expected, observed: lift_of(&seen)? })
    }

    /// The lift by the models, and the load without the event in each step of its window.
    fn expected(&self, parts: &[(Family, f64)], known: &[&KnownEvent], event: &KnownEvent) -> Option<(Lift, Vec<f64>)> {
        let step_us = self.config.step_us;
        let origin_us = align(origin_of(event).min(self.history.end_us()), step_us);
        let (from_us, to_us) = window(event);
        let skipped = usize::try_from((align(from_us, step_us) - origin_us).div_euclid(step_us)).ok()?;
        let steps = (to_us - origin_us + step_us - 1).div_euclid(step_us);
        let steps = usize::try_from(steps.min(MAX_STEPS)).ok().filter(|steps| *steps > skipped)?;
        let others: Vec<&KnownEvent> = known.iter().copied().filter(|other| other.id != event.id).collect();
        let mut all = others.clone();
        all.push(event);
        let without = self.course(parts, origin_us, &others, steps)?;
        let with = self.course(parts, origin_us, &all, steps)?;
        let both: Vec<(f64, f64)> = with.into_iter().zip(without).skip(skipped).collect();
        Some((lift_of(&both)?, both.into_iter().map(|(_, without)| without).collect()))
    }

    /// The medians of what is served, from an origin that may be past, with these events.
    fn course(
        &self,
        parts: &[(Family, f64)],
        origin_us: i64,
        events: &[&KnownEvent],
        steps: usize,
    ) -> Option<Vec<f64>> {
        let history = self.history.until(origin_us, BACK_US);
        let until_us = origin_us + self.config.step_us * i64::try_from(steps).ok()?;
        let acting: Vec<&KnownEvent> =
            events.iter().copied().filter(|event| event.acts(history.start_us(), until_us)).collect();
        let mut logs = vec![0.0; steps];
        let mut weight = 0.0;
        for (family, share) in parts {
            // Trees know no step beyond those that they were grown for.
            if *family == Family::Boosted && steps > self.config.horizon_steps {
                continue;
            }
            let fitted = self.tracks.iter().find(|track| track.family == *family)?.fitted.as_ref()?;
            let centres = fitted.predict(&history, &acting, steps);
            if centres.medians.is_empty() {
                continue;
            }
            logs.iter_mut().zip(&centres.medians).for_each(|(sum, median)| *sum += share * median);
            weight += share;
        }
        (weight > 0.0).then(|| logs.into_iter().map(|sum| unlog(sum / weight)).collect())
    }

    /// An event of that kind as the past ones were at the median, that starts soon.
    fn usual_of(&self, kind: &str, known: &[&KnownEvent]) -> KnownEvent {
        let now_us = self.history.end_us();
        let seen: Vec<&&KnownEvent> =
            known.iter().filter(|event| event.kind == kind && event.ends_at_us <= now_us).collect();
        let lengths = middle(seen.iter().map(|event| event.ends_at_us - event.starts_at_us).collect());
        let mut weights: Vec<f64> = seen.iter().map(|event| event.weight).collect();
        weights.sort_by(f64::total_cmp);
        let starts_at_us = now_us + LEAD_US.0;
        KnownEvent {
            id: String::new(),
            revision: 0,
            kind: kind.to_owned(),
            name: String::new(),
            channel: String::new(),
            weight: weights.get(weights.len() / 2).copied().unwrap_or(1.0),
            audience_size: None,
            announced_at_us: now_us,
            starts_at_us,
            ends_at_us: starts_at_us + lengths.unwrap_or(ORDINARY_US),
            cancelled: false,
        }
    }
}

/// Do they share a response?
fn is_alike(one: &KnownEvent, other: &KnownEvent) -> bool {
    one.kind == other.kind && one.is_long() == other.is_long()
}

fn origin_of(event: &KnownEvent) -> i64 {
    event.starts_at_us - if event.is_long() { LEAD_US.1 } else { LEAD_US.0 }
}

fn window(event: &KnownEvent) -> (i64, i64) {
    (event.starts_at_us, event.ends_at_us + if event.is_long() { 0 } else { TAIL_US })
}

fn align(us: i64, step_us: i64) -> i64 {
    us.div_euclid(step_us) * step_us
}

/// From loads with the event and without it; none where there would be none without.
fn lift_of(both: &[(f64, f64)]) -> Option<Lift> {
    let (with, without) = both.iter().fold((0.0, 0.0), |sums, (with, without)| (sums.0 + with, sums.1 + without));
    let (top, below) = both.iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
    let is_sound = with > 0.0 && without > 0.0 && *top > 0.0 && *below > 0.0;
    is_sound.then(|| Lift { peak: top / below, window: with / without })
}

/// In what an event is unlike those seen before, and by how many times that alone may change its lift's logarithm.
/// `elsewhere` is how many other workloads have seen such events.
fn unlikeness(event: &KnownEvent, past: &[PastLift], elsewhere: u32) -> (String, f64) {
    if past.is_empty() {
        let guess = match elsewhere {
            0 => "the interval is that of a guess".to_owned(),
            others => format!("the lift is that of {others} other workloads, the interval that of a guess"),
        };
        return (format!("no event of the kind {} has been seen here: {guess}", event.kind), 0.0);
    }
    let weights = || past.iter().map(|seen| seen.event.weight);
    let (least, most) = (weights().fold(f64::MAX, f64::min), weights().fold(0.0, f64::max));
    let longest = past.iter().map(|seen| seen.event.ends_at_us - seen.event.starts_at_us).max().unwrap_or(0);
    let nearest = event.weight.clamp(least, most);
    let mut unlike = Vec::new();
    let mut stretched: f64 = 0.0;
    // A kernel adds up on the log scale with the root of the weight.
    if (nearest / event.weight - 1.0).abs() > 0.01 {
        unlike.push(format!("its weight is {}, those seen were {least} to {most}", event.weight));
        stretched = (1.0 - (nearest / event.weight).max(0.0).sqrt()).abs();
    }
    if event.ends_at_us - event.starts_at_us > LONGER * longest {
        unlike.push("it lasts more than twice as long as any seen".to_owned());
        stretched = stretched.max(0.5);
    }
    if !event.channel.is_empty() && past.iter().all(|seen| seen.event.channel != event.channel) {
        unlike.push(format!("none by {} has been seen", event.channel));
        stretched = stretched.max(0.5);
    }
    if !unlike.is_empty() {
        unlike.push("the interval is wider".to_owned());
    }
    (unlike.join(", "), stretched)
}

/// The prediction interval of 80 % around a lift, from how far past ones were off, on the log scale.
#[expect(clippy::cast_precision_loss, reason = "a count of events")]
fn interval(lift: f64, off: &[f64], stretched: f64) -> LiftRange {
    let n = off.len() as f64;
    let mean = off.iter().sum::<f64>() / (n + 1.0);
    let squares: f64 = off.iter().map(|off| (off - mean).powi(2)).sum();
    let freedom = PRIOR_EVENTS + n;
    let variance = (PRIOR_EVENTS * PRIOR_DEVIATION.powi(2) + squares) / freedom;
    let beyond = (lift.ln() * stretched).powi(2);
    let half = student_90(freedom) * (variance * (1.0 + 1.0 / (n + 1.0)) + beyond).sqrt();
    let centre = lift.ln() + mean;
    LiftRange { lift, low: (centre - half).exp().min(lift), high: (centre + half).exp().max(lift) }
}

/// The quantile .9 of Student's t, by the expansion of Cornish and Fisher: within 2 % from two degrees of freedom on.
fn student_90(freedom: f64) -> f64 {
    1.2816 + 0.8467 / freedom + 0.5709 / freedom.powi(2)
}

fn middle(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests;
