//! Signals as they were known at each origin.

use std::collections::BTreeMap;

use headroom_models::KnownEvent;
use polars::prelude::{
    AsOfOptions, AsofStrategy, DataFrame, IntoLazy, JoinType, LazyFrame, PolarsResult, col, df, lit,
};

/// For each origin the signals that were announced by then and not called off, each in the highest revision told by then:
/// `origin`, `signal` (a number by the order of ids), `kind`, `channel`, `weight`, `audience`, `starts`, `ends`.
pub(super) fn at_origins(events: &[KnownEvent], origins: &[i64]) -> PolarsResult<DataFrame> {
    let mut by_id: BTreeMap<&str, Vec<&KnownEvent>> = BTreeMap::new();
    for event in events {
        by_id.entry(event.id.as_str()).or_default().push(event);
    }
    let signals = by_id.len();
    let tellings: Vec<(i64, &KnownEvent)> = (0..)
        .zip(by_id.into_values())
        .flat_map(|(signal, told)| newest(told).map(move |event| (signal, event)))
        .collect();
    let numbers = || (0..).take(signals);
    // Every signal at every origin, beside what of it had been told last.
    let pairs = df!(
        "origin" => origins.iter().flat_map(|origin| numbers().map(move |_: i64| *origin)).collect::<Vec<i64>>(),
        "signal" => origins.iter().flat_map(|_| numbers()).collect::<Vec<i64>>(),
    )?;
    let told = told(&tellings)?.lazy();
    asof(pairs.lazy(), told, ["origin", "announced"], AsofStrategy::Backward, Some("signal"))
        .filter(col("cancelled").eq(lit(false)))
        .select(["origin", "signal", "kind", "channel", "weight", "audience", "starts", "ends"].map(col))
        .collect()
}

/// Revisions of one signal by their announcement, without those that came behind a higher one.
fn newest(mut told: Vec<&KnownEvent>) -> impl Iterator<Item = &KnownEvent> {
    // Of the same revision what came last counts, as for the engine.
    let mut ranked: Vec<(usize, &KnownEvent)> = told.drain(..).enumerate().collect();
    ranked.sort_by_key(|(place, event)| (event.announced_at_us, event.revision, *place));
    let mut highest = None;
    ranked.into_iter().filter_map(move |(place, event)| {
        let rank = Some((event.revision, place));
        let is_newest = rank > highest;
        highest = highest.max(rank);
        is_newest.then_some(event)
    })
}

fn told(tellings: &[(i64, &KnownEvent)]) -> PolarsResult<DataFrame> {
    let mut tellings = tellings.to_vec();
    tellings.sort_by_key(|(_, event)| event.announced_at_us);
    let times = |of: fn(&KnownEvent) -> i64| tellings.iter().map(|(_, event)| of(event)).collect::<Vec<i64>>();
    df!(
        "signal" => tellings.iter().map(|(signal, _)| *signal).collect::<Vec<i64>>(),
        "announced" => times(|event| event.announced_at_us),
        "kind" => tellings.iter().map(|(_, event)| event.kind.as_str()).collect::<Vec<&str>>(),
        "channel" => tellings.iter().map(|(_, event)| event.channel.as_str()).collect::<Vec<&str>>(),
        "weight" => tellings.iter().map(|(_, event)| event.weight).collect::<Vec<f64>>(),
        "audience" => tellings.iter().map(|(_, event)| event.audience_size).collect::<Vec<Option<f64>>>(),
        "starts" => times(|event| event.starts_at_us),
        "ends" => times(|event| event.ends_at_us),
        "cancelled" => tellings.iter().map(|(_, event)| event.cancelled).collect::<Vec<bool>>(),
    )
}

/// For each row on the left the nearest on the right by their `times`, among those with the same `by`. Both are sorted by
/// their times, at least within it.
pub(super) fn asof(
    left: LazyFrame,
    right: LazyFrame,
    times: [&str; 2],
    strategy: AsofStrategy,
    by: Option<&str>,
) -> LazyFrame {
    let by = by.map(|name| vec![name.into()]);
    // Within groups it could not be checked whether they are.
    let options = AsOfOptions { strategy, left_by: by.clone(), right_by: by, allow_eq: true, ..AsOfOptions::default() };
    let [time, of_right] = times.map(col);
    let joined = left.join_builder().with(right).left_on([time]).right_on([of_right]);
    joined.how(JoinType::AsOf(Box::new(options))).finish()
}
