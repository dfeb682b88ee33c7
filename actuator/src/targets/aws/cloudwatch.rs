//! Figures of `CloudWatch`: the newest value of a metric. One call of its query interface, signed, since the SDK of
//! `CloudWatch` would bring a second `http` into the program.

use std::time::{Duration, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use headroom_proto::{EventTime, Span};
use reqwest::Client;
use reqwest::redirect::Policy;
use url::form_urlencoded::Serializer;

use super::AwsSettings;
use crate::Fault;
use crate::targets::governed::Failure;
use crate::targets::webhook::body;

const MAX_ANSWER: usize = 256 * 1024;
/// Figures come each minute, up to three minutes late.
const RECENT: Span = Span::from_mins(5);
const FORM: &str = "application/x-www-form-urlencoded";

/// A metric of one resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// Name and value of what tells the resource.
    pub(super) dimension: (&'a str, &'a str),
}

impl AwsSettings {
    /// The highest value of the newest minute that has one; none when nothing came of late.
    pub(super) async fn newest(
        &self,
        config: &SdkConfig,
        metric: Metric<'_>,
        now: EventTime,
    ) -> Result<Option<f64>, Failure> {
        let asked = question(metric, now);
        let suffix = if self.region.starts_with("cn-") { ".cn" } else { "" };
        let own = format!("https://monitoring.{}.amazonaws.com{suffix}/", self.region);
        let url = self.endpoint.clone().unwrap_or(own);
        let headers = self.signed(config, &url, &asked, now).await?;
        let client = Client::builder().redirect(Policy::none()).build();
        let client = client.map_err(|error| Failure::away(&error.without_url()))?;
        let mut call = client.post(&url).header("content-type", FORM);
        for (name, value) in headers {
            call = call.header(name, value);
        }
        let answer = call.body(asked).send().await.map_err(|error| Failure::away(&error.without_url()))?;
        let status = answer.status();
        let text = String::from_utf8_lossy(&body(answer, MAX_ANSWER).await?).into_owned();
        if status.is_success() {
            return Ok(newest_of(&text));
        }
        let told = between(&text, "<Message>", "</Message>").next().unwrap_or_default();
        let fault = if status.is_server_error() || status.as_u16() == 429 { Fault::Away } else { Fault::Refused };
        Err(Failure::new(fault, format!("CloudWatch answers {status} {told}")))
    }

    async fn signed(
        &self,
        config: &SdkConfig,
        url: &str,
        asked: &str,
        now: EventTime,
    ) -> Result<Vec<(String, String)>, Failure> {
        let cannot = |error: &dyn std::error::Error| Failure::refused(Failure::away(error).problem);
        let provider = config.credentials_provider();
        let provider = provider.ok_or_else(|| Failure::refused("nobody is named who asks".to_owned()))?;
        let identity = provider.provide_credentials().await.map_err(|error| cannot(&error))?.into();
        let micros = u64::try_from(now.micros()).unwrap_or_default();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("monitoring")
            .time(UNIX_EPOCH + Duration::from_micros(micros))
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| cannot(&error))?
            .into();
        let headers = std::iter::once(("content-type", FORM));
        let request = SignableRequest::new("POST", url, headers, SignableBody::Bytes(asked.as_bytes()));
        let signed = sign(request.map_err(|error| cannot(&error))?, &params).map_err(|error| cannot(&error))?;
        let (instructions, _) = signed.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

fn question(metric: Metric<'_>, now: EventTime) -> String {
    let (from, to) = ((now - RECENT).floor(Span::from_secs(1)), now.floor(Span::from_secs(1)) + Span::from_mins(1));
    let mut form = Serializer::new(String::new());
    form.append_pair("Action", "GetMetricStatistics").append_pair("Version", "2010-08-01");
    form.append_pair("Namespace", metric.namespace).append_pair("MetricName", metric.name);
    form.append_pair("Dimensions.member.1.Name", metric.dimension.0);
    form.append_pair("Dimensions.member.1.Value", metric.dimension.1);
    form.append_pair("StartTime", &from.to_string()).append_pair("EndTime", &to.to_string());
    form.append_pair("Period", "60").append_pair("Statistics.member.1", "Maximum");
    form.finish()
}

/// The value of the newest of the points, which come in no order.
fn newest_of(answer: &str) -> Option<f64> {
    let points = between(answer, "<member>", "</member>").filter_map(|point| {
        let time = EventTime::parse(between(point, "<Timestamp>", "</Timestamp>").next()?).ok()?;
        Some((time, between(point, "<Maximum>", "</Maximum>").next()?.parse().ok()?))
    });
    points.max_by_key(|(time, _)| *time).map(|(_, value)| value)
}

/// What stands between two marks, each time.
fn between<'t>(text: &'t str, from: &'t str, to: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(from).skip(1).filter_map(move |rest| rest.split_once(to).map(|(inner, _)| inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_point_counts_whatever_their_order() {
        let point = |minute: u32, value: &str| {
            format!("<member><Timestamp>2026-11-21T18:{minute:02}:00Z</Timestamp><Maximum>{value}</Maximum></member>")
        };
        let answer = format!("<Datapoints>{}{}{}</Datapoints>", point(3, "7.0"), point(5, "2.0"), point(4, "9.0"));
        assert_eq!(newest_of(&answer), Some(2.0));
        assert_eq!(newest_of("<Datapoints/>"), None);
        assert_eq!(newest_of("<member><Timestamp>soon</Timestamp><Maximum>1</Maximum></member>"), None);
    }
}
