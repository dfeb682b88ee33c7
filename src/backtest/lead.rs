//! How early a policy was: the minutes by which the units that a rise of the load needs were ready before it.

/// Ahead of a rise by more than this counts as this; so does being late.
const MOST_MIN: f64 = 60.0;

/// For each rise, a step that needs more units than any of the hour before: minutes that its units had been ready without
/// a break, or minus the minutes that they came late.
pub(super) fn leads(loads: &[f64], ready: &[u32], needed: impl Fn(f64) -> u32, step_min: f64) -> Vec<f64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "steps of an hour")]
    let hour = (MOST_MIN / step_min).ceil() as usize;
    let needs: Vec<u32> = loads.iter().map(|load| if load.is_finite() { needed(*load) } else { 0 }).collect();
    let minutes = |steps: usize| (f64::from(u32::try_from(steps).unwrap_or(u32::MAX)) * step_min).min(MOST_MIN);
    let mut leads = Vec::new();
    for (at, need) in needs.iter().enumerate().skip(hour) {
        let before = needs.get(at - hour..at).unwrap_or_default();
        if before.iter().any(|earlier| earlier >= need) {
            continue;
        }
        let since = ready.get(at - hour..=at).unwrap_or_default();
        let ahead = since.iter().rev().take_while(|units| *units >= need).count();
        leads.push(if ahead > 0 {
            minutes(ahead - 1)
        } else {
            let behind = ready.iter().skip(at).take(hour).take_while(|units| *units < need).count();
            -minutes(behind)
        });
    }
    leads
}

/// The median; none without any rise.
pub(super) fn median(leads: &[f64]) -> Option<f64> {
    let mut sorted = leads.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_and_late_units_are_told_by_the_minute() {
        // A rise in step 5 after four quiet ones, another in step 9, in steps of a quarter of an hour.
        let loads = [1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0];
        let needed = |load: f64| {
            if load > 2.5 {
                3
            } else if load > 1.5 {
                2
            } else {
                1
            }
        };
        let ready = [1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3];
        assert_eq!(leads(&loads, &ready, needed, 15.0), [30.0, -30.0]);
        assert_eq!(leads(&loads, &[3; 12], needed, 15.0), [60.0, 60.0]);
        assert_eq!(median(&[30.0, -30.0, 60.0]), Some(30.0));
        assert_eq!(median(&[]), None);
    }
}
