//! Notices as JSON.

use headroom_actuator_decide::audit::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Notice, NoticeKind, NotifyFormat};

/// The body of a notice.
pub(super) fn body(notice: &Notice, format: NotifyFormat) -> Value {
    match format {
        NotifyFormat::Generic => generic(notice),
        NotifyFormat::Slack => slack(notice),
    }
}

/// The same notice has the same id, however often it is sent.
pub(super) fn id(notice: &Notice) -> String {
    let facts: Vec<String> = notice.facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let text = format!("{}\n{}\n{}\n{}", notice.kind.name(), notice.workload, notice.at.micros(), facts.join("\n"));
    let digest = hex(&Sha256::digest(text));
    format!("msg_{}", digest.get(..32).unwrap_or(&digest))
}

fn generic(notice: &Notice) -> Value {
    let mut data = json!({ "workload": notice.workload, "text": notice.text });
    if let Some(data) = data.as_object_mut() {
        data.extend(notice.facts.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))));
    }
    json!({
        "type": format!("headroom.notice.{}.v1", notice.kind.name()),
        "timestamp": notice.at.to_string(),
        "data": data,
    })
}

/// `text` is what a notification shows, and all that some imitations of Slack read.
fn slack(notice: &Notice) -> Value {
    let sign = match notice.kind {
        NoticeKind::Waits | NoticeKind::Approved => ":raised_hand:",
        NoticeKind::Expired => ":hourglass:",
        NoticeKind::Applied | NoticeKind::StageEarned | NoticeKind::Resumed => ":white_check_mark:",
        NoticeKind::Failed | NoticeKind::StageLost => ":warning:",
        NoticeKind::RolledBack => ":leftwards_arrow_with_hook:",
        NoticeKind::Paused => ":double_vertical_bar:",
        NoticeKind::KillSwitch => ":octagonal_sign:",
    };
    let text = format!("{sign} {}", escaped(&notice.text));
    let mut facts: Vec<String> = ["units", "risk", "plan_id", "action_id"]
        .iter()
        .filter_map(|name| notice.facts.get(name).map(|value| format!("*{name}* {}", escaped(value))))
        .collect();
    facts.push(notice.at.to_string());
    json!({
        "text": text,
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": text } },
            { "type": "context", "elements": [{ "type": "mrkdwn", "text": facts.join("   ") }] },
        ],
    })
}

/// The three characters that Slack's markup gives a meaning; without them no text can mention a channel.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
