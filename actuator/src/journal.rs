//! Plans, moves, switches and outcomes as records of their topics.

use headroom_ingest_broker::Record;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionRecord, Approval, Outcome, Plan, StageMove, Switch, Term};
use headroom_proto::{EventTime, headers};
use prost::Message;

/// A plan.
pub(crate) fn plan(plan: &Plan) -> Record {
    record(Topic::Plans, &plan.workload, "Plan", plan.decided_at_us, plan)
}

/// A move of an action.
pub(crate) fn action(action: &ActionRecord) -> Record {
    record(Topic::Actions, &action.workload, "ActionRecord", action.at_us, action)
}

/// A switch; one for all workloads goes under the empty key. Producers scatter empty keys over the partitions, and
/// switches must stay in order: it names its partition.
pub(crate) fn switch(switch: &Switch, writer: &str) -> Record {
    let record = record(Topic::Actions, &switch.workload, "Switch", switch.at_us, switch);
    let record = record.header(headers::WRITER, writer.to_owned());
    if switch.workload.is_empty() { record.partition(0) } else { record }
}

/// One of several approvals that an action needs.
pub(crate) fn approval(approval: &Approval) -> Record {
    record(Topic::Actions, &approval.workload, "Approval", approval.at_us, approval)
}

/// A stage that was earned or lost.
pub(crate) fn stage(moved: &StageMove) -> Record {
    record(Topic::Actions, &moved.workload, "StageMove", moved.at_us, moved)
}

/// A term begins in a partition of the actions topic.
pub(crate) fn term(term: &Term, partition: i32) -> Record {
    record(Topic::Actions, "", "Term", term.at_us, term).partition(partition)
}

/// A measured outcome.
pub(crate) fn outcome(outcome: &Outcome) -> Record {
    record(Topic::Outcomes, &outcome.workload, "Outcome", outcome.measured_to_us, outcome)
}

fn record(topic: Topic, workload: &str, message: &str, at_us: i64, value: &impl Message) -> Record {
    Record::new(topic, value.encode_to_vec())
        .key(workload.to_owned())
        .header(headers::MESSAGE, message.to_owned())
        .time(EventTime::from_micros(at_us))
}
