//! Forecasts of single steps that wait for their values, in little room: there are two thousand of them in an engine that
//! looks two days ahead.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::event::When;
use crate::history::make_room;
use crate::scales::{log, unlog};

const MIN_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MIN_US;
/// Forecasts from origins this far apart are kept until they mature: neighbours tell the same.
const EVERY_US: i64 = 15 * MIN_US;
/// How far ahead of their origin, at the most two in each of the calibration's groups but the last.
const AHEAD_US: [i64; 19] = [
    0,
    10 * MIN_US,
    20 * MIN_US,
    45 * MIN_US,
    90 * MIN_US,
    150 * MIN_US,
    4 * HOUR_US,
    6 * HOUR_US,
    10 * HOUR_US,
    16 * HOUR_US,
    24 * HOUR_US - 1,
    30 * HOUR_US,
    36 * HOUR_US,
    47 * HOUR_US,
    3 * 24 * HOUR_US,
    5 * 24 * HOUR_US,
    7 * 24 * HOUR_US,
    10 * 24 * HOUR_US,
    13 * 24 * HOUR_US,
];
/// From so far ahead on, origins of six hours tell the same.
const FAR_US: i64 = 3 * 24 * HOUR_US;
const FAR_EVERY_US: i64 = 6 * HOUR_US;
/// Of a distance of one on the log scale: it is kept to within .0001.
const PER_ONE: f64 = 4_096.0;

/// One step of a path: its median on the log scale, its width, where it is, and its quantiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    pub(super) median_log: f64,
    pub(super) width: f64,
    pub(super) when: When,
    pub(super) quantiles: &'a [f32],
}

/// A step that has come: where it was forecast from, and as what.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) origin_us: i64,
    pub(super) due_us: i64,
    pub(super) median_log: f64,
    pub(super) width: f64,
    pub(super) when: When,
    pub(super) quantiles: Vec<f32>,
}

/// What waits, by how far ahead it was forecast.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Waiting(Vec<Queue>);

/// Those as far ahead as each other: they mature in the order of their origins.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Queue {
    ahead_us: i64,
    steps: VecDeque<Kept>,
    /// Distances of the quantiles from the medians on the log scale, step after step.
    distances: VecDeque<i16>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Kept {
    /// In quarters of an hour.
    origin: i32,
    median_log: f32,
    width: f32,
    when: When,
}

/// Which steps of a forecast from this origin are kept; none of most origins.
pub(super) fn steps(origin_us: i64, step_us: i64) -> impl Iterator<Item = usize> {
    let is_at = |every_us: i64| origin_us.rem_euclid(every_us.max(step_us)) == 0;
    let (is_kept, is_far_kept) = (is_at(EVERY_US), is_at(FAR_EVERY_US));
    let kept = AHEAD_US.iter().filter(|ahead_us| if **ahead_us < FAR_US { is_kept } else { is_far_kept });
    let mut steps: Vec<i64> = kept.map(|ahead_us| ahead_us / step_us).collect();
    steps.dedup();
    steps.into_iter().filter_map(|step| usize::try_from(step).ok())
}

impl Waiting {
    /// Keeps a step until it comes.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty, and distances are clamped")]
    pub(super) fn add(&mut self, origin_us: i64, ahead_us: i64, step: Step<'_>) {
        let Ok(origin) = i32::try_from(origin_us.div_euclid(EVERY_US)) else { return };
        let place = self.0.partition_point(|queue| queue.ahead_us > ahead_us);
        if self.0.get(place).is_none_or(|queue| queue.ahead_us != ahead_us) {
            self.0.insert(place, Queue { ahead_us, ..Queue::default() });
        }
        let Some(queue) = self.0.get_mut(place) else { return };
        let Step { median_log, width, when, quantiles } = step;
        make_room(&mut queue.steps);
        queue.steps.push_back(Kept { origin, median_log: median_log as f32, width: width as f32, when });
        for quantile in quantiles {
            make_room(&mut queue.distances);
            let distance = (log(f64::from(*quantile)) - f64::from(median_log as f32)) * PER_ONE;
            queue.distances.push_back(distance.round() as i16);
        }
    }

    /// Takes out what was forecast for the step that starts at `start_us`, the furthest ahead first; what was missed goes.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
    pub(super) fn due(&mut self, start_us: i64) -> Vec<Due> {
        let mut all = Vec::new();
        for queue in &mut self.0 {
            let levels = queue.distances.len() / queue.steps.len().max(1);
            while let Some(kept) = queue.steps.front().copied() {
                let origin_us = i64::from(kept.origin) * EVERY_US;
                let due_us = origin_us + queue.ahead_us;
                if due_us > start_us {
                    break;
                }
                queue.steps.pop_front();
                let distances = queue.distances.drain(..levels);
                if due_us == start_us {
                    let median_log = f64::from(kept.median_log);
                    let quantile = |distance: i16| unlog(median_log + f64::from(distance) / PER_ONE) as f32;
                    let (width, when) = (f64::from(kept.width), kept.when);
                    let quantiles = distances.map(quantile).collect();
                    all.push(Due { origin_us, due_us, median_log, width, when, quantiles });
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_comes_back_in_time_and_what_was_missed_goes() {
        let mut waiting = Waiting::default();
        let quantiles = [0.0_f32, 90.0, 100.0, 125.0];
        for origin_us in [0, EVERY_US, 2 * EVERY_US] {
            for step in steps(origin_us, EVERY_US).take(3) {
                let ahead_us = EVERY_US * i64::try_from(step).expect("small");
                let step = Step { median_log: log(100.0), width: 1.5, when: When::Near, quantiles: &quantiles };
                waiting.add(origin_us, ahead_us, step);
            }
        }
        // 0, 10 and 20 minutes ahead are the steps 0 and 1, 45 minutes the step 3.
        assert_eq!(steps(0, EVERY_US).take(3).collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(steps(60_000_000, 60_000_000).count(), 0);
        assert_eq!((steps(HOUR_US, HOUR_US).max(), steps(FAR_EVERY_US, HOUR_US).max()), (Some(47), Some(13 * 24)));
        let due = waiting.due(EVERY_US);
        let origins: Vec<i64> = due.iter().map(|due| due.origin_us).collect();
        assert_eq!(origins, [0, EVERY_US]);
        for (came, kept) in due[0].quantiles.iter().zip(quantiles) {
            assert!((came - kept).abs() <= 0.0002 * kept, "{came} {kept}");
        }
        assert!((due[0].width - 1.5).abs() < 1e-6 && due[0].when == When::Near && due[0].due_us == EVERY_US);
        // Steps 2 and 3 never come: the last origin's third step does.
        assert_eq!(waiting.due(5 * EVERY_US).iter().map(|due| due.origin_us).collect::<Vec<_>>(), [2 * EVERY_US]);
        assert!(waiting.due(i64::MAX).is_empty());
    }
}
