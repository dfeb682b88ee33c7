//! Was an action a good one? What was measured of it, against what it was made for.
//!
//! A raise that a quantile asks for is an insurance: sized for the p75, three of four are not needed to the last. So one
//! that was not used is held against its forecast, not against the load alone: it was wasteful when the load stayed below
//! all that the forecast had given as likely, or when the raise was withdrawn before that load could come.

use crate::stage::Kind;

/// What was measured of an action.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Windows that were seen since its units were ready.
    pub windows: u32,
    /// The highest load.
    pub peak: f64,
    /// The highest utilisation of the units.
    pub peak_utilisation: f64,
    /// The highest utilisation that the units before the action would have had.
    pub peak_utilisation_without: f64,
    /// Minutes in violation.
    pub violation_minutes: f64,
    /// Did the verification find harm?
    pub is_harmful: bool,
}

/// What an action was made for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Purpose {
    /// Utilisation that is sized for, 0..1.
    pub target_utilisation: f64,
    /// The lowest quantile of the forecast at the peak that was planned for; 0 without a forecast.
    pub expected_low: f64,
    /// The load at the decision needed the units, whatever the forecast said.
    pub needed_at_once: bool,
}

/// The judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It bore the load, and was made use of.
    Good,
    /// A raise that was not needed this time, by a load within what the forecast had given as likely.
    Spare,
    /// More than half of what was sized for lay idle; of a raise: by a load below all that was likely.
    Wasteful,
    /// Users suffered.
    Tight,
    /// It did harm.
    Harmful,
    /// Nothing was seen.
    Unmeasured,
}

impl Judgement {
    /// In records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Spare => "spare",
            Self::Wasteful => "wasteful",
            Self::Tight => "tight",
            Self::Harmful => "harmful",
            Self::Unmeasured => "unmeasured",
        }
    }
}

/// Judges an action.
#[must_use]
pub fn judge(kind: Kind, measured: &Measured, purpose: &Purpose) -> Judgement {
    let is_used = measured.peak_utilisation >= purpose.target_utilisation / 2.0;
    if measured.is_harmful {
        return Judgement::Harmful;
    }
    if measured.windows == 0 {
        return Judgement::Unmeasured;
    }
    if measured.violation_minutes > 0.0 {
        return Judgement::Tight;
    }
    if kind == Kind::Release {
        return if is_used { Judgement::Good } else { Judgement::Wasteful };
    }
    let is_needed = measured.peak_utilisation_without > purpose.target_utilisation;
    let was_likely = purpose.needed_at_once || measured.peak >= purpose.expected_low;
    if is_needed && (is_used || was_likely) {
        Judgement::Good
    } else if was_likely {
        Judgement::Spare
    } else {
        Judgement::Wasteful
    }
}

/// Does a judgement count as a good outcome? A release is not blamed for what it has left unused, a raise is.
#[must_use]
pub fn is_good(kind: Kind, judgement: &str) -> Option<bool> {
    match (kind, judgement) {
        (_, "good" | "spare") | (Kind::Release, "wasteful") => Some(true),
        (_, "tight") | (Kind::Raise, "wasteful") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One unit of 70 before, two now, sized for 0.7 (49 a unit) by a forecast whose lowest quantile was 40.
    fn judged(kind: Kind, peak: f64, purpose: Purpose) -> Judgement {
        let (before, now) = if kind == Kind::Raise { (70.0, 140.0) } else { (140.0, 70.0) };
        let measured = Measured {
            windows: 12,
            peak,
            peak_utilisation: peak / now,
            peak_utilisation_without: peak / before,
            violation_minutes: if peak / now > 0.85 { 5.0 } else { 0.0 },
            is_harmful: false,
        };
        judge(kind, &measured, &purpose)
    }

    const PURPOSE: Purpose = Purpose { target_utilisation: 0.7, expected_low: 40.0, needed_at_once: false };

    #[test]
    fn a_raise_is_held_against_its_forecast() {
        for (peak, judgement) in [
            (130.0, Judgement::Tight),
            (90.0, Judgement::Good),
            (50.0, Judgement::Good),
            (48.0, Judgement::Spare),
            (40.0, Judgement::Spare),
            (39.0, Judgement::Wasteful),
        ] {
            assert_eq!(judged(Kind::Raise, peak, PURPOSE), judgement, "{peak}");
        }
        // A load that fell again before the units were ready is not the raise's fault.
        let at_once = Purpose { needed_at_once: true, ..PURPOSE };
        assert_eq!(judged(Kind::Raise, 20.0, at_once), Judgement::Spare);
    }

    #[test]
    fn many_times_too_much_is_wasteful_though_some_of_it_was_needed() {
        let measured = Measured {
            windows: 12,
            peak: 60.0,
            peak_utilisation: 0.1,
            peak_utilisation_without: 0.86,
            ..Measured::default()
        };
        let far_off = Purpose { expected_low: 300.0, ..PURPOSE };
        assert_eq!(judge(Kind::Raise, &measured, &far_off), Judgement::Wasteful);
        assert_eq!(judge(Kind::Raise, &measured, &PURPOSE), Judgement::Good, "60 was likely");
    }

    #[test]
    fn a_release_is_judged_by_the_load_alone() {
        assert_eq!(judged(Kind::Release, 65.0, PURPOSE), Judgement::Tight);
        assert_eq!(judged(Kind::Release, 40.0, PURPOSE), Judgement::Good);
        assert_eq!(judged(Kind::Release, 10.0, PURPOSE), Judgement::Wasteful);
        let unseen = Measured::default();
        assert_eq!(judge(Kind::Release, &unseen, &PURPOSE), Judgement::Unmeasured);
        assert_eq!(judge(Kind::Raise, &Measured { is_harmful: true, ..unseen }, &PURPOSE), Judgement::Harmful);
    }

    #[test]
    fn a_release_is_not_blamed_for_what_it_leaves_unused() {
        assert_eq!(is_good(Kind::Raise, "wasteful"), Some(false));
        assert_eq!(is_good(Kind::Release, "wasteful"), Some(true));
        assert_eq!(is_good(Kind::Raise, "spare"), Some(true));
        assert_eq!(is_good(Kind::Raise, "unmeasured"), None);
    }
}
