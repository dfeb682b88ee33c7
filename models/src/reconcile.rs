//! Forecasts of workloads and of their sum, made to agree: minimum trace reconciliation (Wickramasuriya, Athanasopoulos and
//! Hyndman, 2019) with a diagonal of error variances (WLS).
//!
//! For one sum of members it has a closed form: the difference between the group's forecast and the sum of its members' is
//! shared out by their variances, `b̃ᵢ = bᵢ + wᵢ (g - Σb) / (w₀ + Σw)`, and the group's is their new sum. Medians are
//! reconciled, as point forecasts; every other quantile keeps its ratio to its own median, or, where that moves by more than
//! half or twice, its distance. A step of which some variance is not known yet is added up from below: `w = 0`.

use crate::score::at_level;

/// A base forecast to be reconciled.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Levels of the quantiles, ascending.
    pub levels: &'a [f64],
    /// `values[step * levels + level]`.
    pub values: &'a mut [f32],
    /// How far off each step usually is, in the unit of the values; NaN or nothing while that is not known.
    pub deviations: &'a [f64],
}

impl Rows<'_> {
    fn row(&self, step: usize) -> &[f32] {
        let levels = self.levels.len();
        self.values.get(step * levels..(step + 1) * levels).unwrap_or_default()
    }

    fn median(&self, step: usize) -> f64 {
        at_level(self.levels, self.row(step), 0.5)
    }

    /// Error variance of a step.
    fn variance(&self, step: usize) -> Option<f64> {
        let deviation = self.deviations.get(step)?;
        deviation.is_finite().then(|| deviation * deviation)
    }

    /// Moves a step's median from one value to another.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
    fn scale(&mut self, step: usize, from: f64, to: f64) {
        let levels = self.levels.len();
        // A median near nothing says nothing of how wide its interval would be elsewhere: that is shifted.
        let is_like = from > 0.0 && (0.5..=2.0).contains(&(to / from));
        for value in self.values.get_mut(step * levels..(step + 1) * levels).unwrap_or_default() {
            let old = f64::from(*value);
            *value = if is_like { old * (to / from) } else { (old + to - from).max(0.0) } as f32;
        }
    }
}

/// Makes the medians of the members add up to that of the group, at every step that all of them have.
pub fn reconcile(mut group: Rows<'_>, members: &mut [Rows<'_>]) {
    let steps_of = |rows: &Rows<'_>| rows.values.len() / rows.levels.len().max(1);
    let steps = members.iter().map(steps_of).min().unwrap_or(0).min(steps_of(&group));
    for step in 0..steps {
        let total = group.median(step);
        let medians: Vec<f64> = members.iter().map(|member| member.median(step)).collect();
        let variances: Option<Vec<f64>> = members.iter().map(|member| member.variance(step)).collect();
        let share = match (group.variance(step), &variances) {
            (Some(own), Some(variances)) => share(total, own, &medians, variances),
            _ => 0.0,
        };
        let mut sum = 0.0;
        for (place, (member, median)) in members.iter_mut().zip(&medians).enumerate() {
            let variance = variances.as_ref().and_then(|all| all.get(place)).copied().unwrap_or_default();
            // Rounding must not make it negative.
            let reconciled = (median + variance * share).max(0.0);
            member.scale(step, *median, reconciled);
            sum += reconciled;
        }
        group.scale(step, total, sum);
    }
}

/// `(g - Σb) / (w₀ + Σw)`, but no more than leaves every member above nothing.
fn share(total: f64, own: f64, medians: &[f64], variances: &[f64]) -> f64 {
    let all = own + variances.iter().sum::<f64>();
    if all <= 0.0 {
        return 0.0;
    }
    let wanted = (total - medians.iter().sum::<f64>()) / all;
    let least = medians.iter().zip(variances).filter(|(_, variance)| **variance > 0.0);
    least.map(|(median, variance)| -median / variance).fold(wanted, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];

    fn median(values: &[f32], step: usize) -> f64 {
        f64::from(values[3 * step + 1])
    }

    /// One group of two members, one step; all of the given deviations.
    fn reconciled(deviations: Option<[f64; 3]>) -> [[f32; 3]; 3] {
        let [mut group, mut one, mut other] = [[90.0, 120.0, 150.0], [30.0, 40.0, 60.0], [50.0, 60.0, 70.0]];
        let [of_group, of_one, of_other] = deviations.map_or([const { Vec::new() }; 3], |all| all.map(|one| vec![one]));
        let rows = |values, deviations| Rows { levels: &LEVELS, values, deviations };
        let mut members = [rows(&mut one[..], &of_one), rows(&mut other[..], &of_other)];
        reconcile(rows(&mut group[..], &of_group), &mut members);
        [group, one, other]
    }

    #[test]
    fn a_case_worked_by_hand() {
        // Variances 4, 4 and 8; the difference of 20 over 16 is 1.25: members gain 5 and 10, the group is 115.
        let [group, one, other] = reconciled(Some([2.0, 2.0, 8.0_f64.sqrt()]));
        let near = |value: f32, expected: f64| (f64::from(value) / expected - 1.0).abs() < 1e-6;
        assert!(near(one[1], 45.0) && near(other[1], 70.0) && near(group[1], 115.0), "{group:?} {one:?} {other:?}");
        // Intervals keep their ratios.
        assert!(near(one[2], 67.5) && near(group[0], 90.0 * 115.0 / 120.0), "{group:?} {one:?}");
    }

    #[test]
    fn it_is_the_projection_of_the_general_formula() {
        // S (S' W^-1 S)^-1 S' W^-1 y by numpy 2.4.6, with y = (120, 40, 60) and W = diag(9, 1, 25).
        let [group, one, other] = reconciled(Some([3.0, 1.0, 5.0]));
        for (value, expected) in [(group[1], 114.857_142_86), (one[1], 40.571_428_57), (other[1], 74.285_714_29)] {
            assert!((f64::from(value) / expected - 1.0).abs() < 1e-6, "{value} {expected}");
        }
    }

    #[test]
    fn without_errors_it_is_added_up_and_nothing_becomes_negative() {
        let [group, one, other] = reconciled(None);
        assert_eq!((group[1], one[1], other[1]), (100.0, 40.0, 60.0));
        let (mut group, mut one, mut other) = ([0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [90.0, 100.0, 110.0]);
        let rows = |values, deviations| Rows { levels: &LEVELS, values, deviations };
        let (small, wide, narrow) = ([0.1], [50.0], [0.5]);
        let mut members = [rows(&mut one[..], &wide), rows(&mut other[..], &narrow)];
        reconcile(rows(&mut group[..], &small), &mut members);
        assert!(one.iter().chain(&other).chain(&group).all(|value| *value >= 0.0), "{one:?} {other:?} {group:?}");
        let sum = median(&one, 0) + median(&other, 0);
        assert!((median(&group, 0) / sum - 1.0).abs() < 1e-6, "{sum} {group:?}");
    }
}
