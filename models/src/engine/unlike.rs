//! Is what is forecast like what the models have seen? A load beyond all that was seen, a signal of a kind that was never
//! seen, or of a weight or length far beyond, is told, and the quantiles are drawn wider where it acts: an interval that
//! was learned from other days promises too much.

use super::{Engine, ForecastSet, Verdict};
use crate::KnownEvent;
use crate::scales::{log, median, unlog};
use crate::score::at_level;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// The load is unlike when the last hour's is this many times the highest before, or this part of the lowest.
const ABOVE: f64 = 1.5;
const BELOW: f64 = 0.5;
/// A signal is unlike when its weight or length is this many times the most seen.
const HEAVIER: f64 = 1.5;
const LONGER: i64 = 2;
/// Quantiles are this many times as far from the median, on the log scale.
pub(crate) const WIDER: f64 = 1.25;

impl ForecastSet {
    /// Draws the quantiles of some steps wider, on the log scale around the median, for a reason that the models do not
    /// know of.
    pub fn widen(&mut self, is_concerned: impl Fn(usize) -> bool) {
        let levels = self.levels.len().max(1);
        for (_, row) in self.values.chunks_exact_mut(levels).enumerate().filter(|(step, _)| is_concerned(*step)) {
            let middle = log(at_level(&self.levels, row, 0.5));
            for value in row.iter_mut() {
                #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
                let drawn = unlog(middle + (log(f64::from(*value)) - middle) * WIDER) as f32;
                *value = drawn;
            }
        }
    }
}

impl Engine {
    /// Marks what is unlike, and widens the quantiles that it concerns.
    pub(super) fn mark_unlike(&self, set: &mut ForecastSet) {
        if let Some(reason) = self.unlike_load() {
            set.widen(|_| true);
            set.unlike.push(reason);
        }
        let (origin_us, step_us) = (set.origin_us, set.step_us);
        let until_us = origin_us + step_us * i64::try_from(set.event_steps.len()).unwrap_or(0);
        let coming = self.book.known(origin_us, origin_us, until_us);
        let unlike: Vec<(&KnownEvent, String)> =
            coming.into_iter().filter_map(|event| Some((event, self.unlike_signal(event)?))).collect();
        let acts = |step: usize| {
            let start_us = origin_us + step_us * i64::try_from(step).unwrap_or(0);
            unlike.iter().any(|(event, _)| event.flags(start_us, step_us))
        };
        // An event that is near but not within the horizon changes nothing.
        if (0..set.event_steps.len()).any(acts) {
            set.widen(acts);
            set.unlike.extend(unlike.iter().map(|(_, reason)| reason.clone()));
        }
        if !set.unlike.is_empty() {
            if set.verdict == Verdict::Fresh {
                set.verdict = Verdict::Suspect;
            }
            let before = Some(std::mem::take(&mut set.verdict_reason)).filter(|before| !before.is_empty());
            set.verdict_reason = before.into_iter().chain(set.unlike.iter().cloned()).collect::<Vec<_>>().join("; ");
        }
    }

    /// Is the load of the last hour far outside of what came before it?
    fn unlike_load(&self) -> Option<String> {
        let hour = usize::try_from(HOUR_US / self.config.step_us).unwrap_or(1).max(1);
        let now = median(self.history.last(hour).filter_map(|(_, value)| value).collect());
        let before = self.history.len().checked_sub(hour).filter(|before| *before > 0)?;
        let mut range: Option<(f64, f64)> = None;
        for value in self.history.last(self.history.len()).take(before).filter_map(|(_, value)| value) {
            let (least, most) = range.unwrap_or((value, value));
            range = Some((least.min(value), most.max(value)));
        }
        let (least, most) = range?;
        let told = |side: &str, bound: f64| format!("the load of the last hour, {now:.4}, is far {side} {bound:.4}");
        if most > 0.0 && now > ABOVE * most {
            return Some(told("above the highest seen before,", most));
        }
        (now < BELOW * least).then(|| told("below the lowest seen before,", least))
    }

    /// In what a signal is unlike those whose effect was seen.
    fn unlike_signal(&self, event: &KnownEvent) -> Option<String> {
        let now_us = self.history.end_us();
        let known = self.book.known(now_us, self.history.start_us(), now_us);
        let alike = |other: &&&KnownEvent| {
            let is_seen = other.ends_at_us <= now_us && other.starts_at_us >= self.history.start_us() + DAY_US;
            is_seen && other.id != event.id && other.kind == event.kind && other.is_long() == event.is_long()
        };
        let seen: Vec<&KnownEvent> = known.iter().filter(alike).copied().collect();
        let KnownEvent { id, kind, weight, channel, .. } = event;
        if seen.is_empty() {
            let others = match self.elsewhere().workloads(event) {
                0 => String::new(),
                others => format!(" here: its effect is taken from {others} other workloads"),
            };
            return Some(format!("signal {id}: no {kind} of its length has been seen{others}"));
        }
        if !channel.is_empty() && seen.iter().all(|other| other.channel != *channel) {
            return Some(format!("signal {id}: no {kind} by {channel} has been seen"));
        }
        let heaviest = seen.iter().map(|other| other.weight).fold(0.0, f64::max);
        if *weight > HEAVIER * heaviest {
            return Some(format!("signal {id}: its weight is {weight}, the highest seen of a {kind} is {heaviest}"));
        }
        let length = |event: &KnownEvent| event.ends_at_us - event.starts_at_us;
        let longest = seen.iter().map(|other| length(other)).max().unwrap_or(0);
        (length(event) > LONGER * longest)
            .then(|| format!("signal {id}: it lasts more than twice as long as any {kind} seen"))
    }
}

#[cfg(test)]
mod tests;
