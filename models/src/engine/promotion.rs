//! Who is served: a challenger takes the champion's place when betting on its daily losses has paid.
//!
//! Each day half of what a bettor has is staked on the challenger's loss being below `promote_below` times the champion's.
//! As long as it is not, on average, what she has is a supermartingale, so that to lose the champion's place needs evidence
//! and not luck (testing by betting: Shafer, 2021; Waudby-Smith and Ramdas, 2024). She begins anew whenever she has less
//! than she began with, which makes her an e-detector (Shin, Ramdas and Rinaldo, 2023): a challenger that is no better is
//! promoted once in [`DAYS_BETWEEN_MISTAKES`] days on average, or more rarely.

use super::{Engine, HOUR_US, Note};
use crate::family::Family;

const DAY_HOURS: usize = 24;
/// What a bettor who began with one must have.
const DAYS_BETWEEN_MISTAKES: f64 = 365.0;
/// The part of what she has that a bettor stakes.
const STAKE: f64 = 0.5;

/// What a bettor has after a day with these losses, both of them positive or zero.
fn bet(had: f64, champion: f64, challenger: f64, promote_below: f64) -> f64 {
    let to_beat = promote_below * champion;
    let gain = if to_beat + challenger > 0.0 { (to_beat - challenger) / (to_beat + challenger) } else { 0.0 };
    had.max(1.0) * (1.0 + STAKE * gain)
}

impl Engine {
    /// Looks once a day. An ensemble gives its members more weight instead.
    pub(super) fn promote(&mut self, notes: &mut Vec<Note>) {
        let day_us = (24 * HOUR_US).max(self.config.step_us);
        if self.is_fixed || self.history.end_us().rem_euclid(day_us) != 0 {
            return;
        }
        let Some((champion, challengers)) = self.tracks.split_first_mut() else { return };
        // Of daily steps, an hour of losses is one of a step.
        let hours = DAY_HOURS.min(usize::try_from(day_us / self.config.step_us).unwrap_or(DAY_HOURS));
        let Some(to_beat) = champion.loss(0, hours) else { return };
        let gives_weight = champion.family == Family::Ensemble;
        let competes = |family: Family| !(family.is_benchmark() || gives_weight && family.prior().is_some());
        for track in challengers.iter_mut().filter(|track| competes(track.family)) {
            let Some(loss) = track.loss(0, hours) else { continue };
            track.wealth = bet(track.wealth, to_beat, loss, self.config.promote_below);
        }
        let richest = (1..).zip(challengers.iter()).max_by(|(_, a), (_, b)| a.wealth.total_cmp(&b.wealth));
        let Some((place, wealth)) = richest.map(|(place, track)| (place, track.wealth)) else { return };
        if wealth < DAYS_BETWEEN_MISTAKES {
            return;
        }
        let from = champion.version.clone();
        self.tracks.swap(0, place);
        self.tracks.iter_mut().for_each(|track| track.wealth = 1.0);
        let below = self.config.promote_below;
        let reason =
            format!("bets on its daily losses being below {below} of the champion's have paid {wealth:.0} to one");
        notes.push(Note::Promoted { from, to: self.champion().to_owned(), reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boost::random::Random;
    use crate::engine::EngineConfig;

    #[test]
    fn bets_on_equals_seldom_pay_and_on_the_better_they_do() {
        let mut random = Random::seeded(7);
        let mut uniform = || (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        // Losses of two that are equally good on average differ by up to a factor of three from day to day.
        let mut loss = |scale: f64| scale * (1.0 + 2.0 * uniform());
        let (mut wealth, mut mistakes) = (1.0, 0);
        for _ in 0..365 * 40 {
            // At the border of what is tested, 1 as good as 1 after the factor.
            wealth = bet(wealth, loss(1.0), loss(1.0), 1.0);
            if wealth >= DAYS_BETWEEN_MISTAKES {
                (wealth, mistakes) = (1.0, mistakes + 1);
            }
        }
        assert!(mistakes <= 40, "{mistakes} in 40 years");
        let mut days = 0;
        let mut had = 1.0;
        while had < DAYS_BETWEEN_MISTAKES {
            had = bet(had, loss(1.0), loss(0.3), 0.9);
            days += 1;
        }
        assert!((15..60).contains(&days), "{days} days");
        assert!((bet(1.0, 0.0, 0.0, 0.9) - 1.0).abs() < 1e-12);
    }

    /// Each hour of the week has a load of its own that no curve tells, and it comes again every week.
    fn weekly(step: i64) -> f64 {
        let hour = step.rem_euclid(168);
        let mixed = (hour + 1).wrapping_mul(7_919 * 104_729) % 1_009;
        10.0 + 990.0 * (mixed as f64 / 1_009.0).powi(4)
    }

    #[test]
    fn a_challenger_that_knows_the_load_is_promoted_and_one_that_is_lucky_is_not() {
        let config = EngineConfig { step_us: HOUR_US, horizon_steps: 24, ..EngineConfig::default() };
        let promotions = |value: &dyn Fn(i64) -> f64, days: i64| {
            let mut engine = Engine::light(config.clone()).expect("legal");
            engine.is_fixed = false;
            let mut names = Vec::new();
            for step in 0..days * 24 {
                for note in engine.observe(step * HOUR_US, value(step)) {
                    if let Note::Promoted { to, .. } = note {
                        names.push(to);
                    }
                }
                let _ = engine.forecast();
            }
            names
        };
        let names = promotions(&weekly, 90);
        assert!(names.first().is_some_and(|name| name.starts_with("seasonal-naive")), "{names:?}");
        let noise = |step: i64| 100.0 + 50.0 * ((step * 7_919 % 101) as f64 / 50.0 - 1.0);
        assert_eq!(promotions(&noise, 60), Vec::<String>::new());
    }
}
