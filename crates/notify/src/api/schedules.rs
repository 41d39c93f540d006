//! Schedules: events that are posted at times of the clock.

use super::{
    documents::{Done, hundred},
    done, owns, reads,
};
use crate::{
    core::{Command, Reply, SCHEDULES_MAX, ScheduleSeen, times::ScheduleSpec},
    parts::{PAGE_MAX, Parts, Running},
    problem::{CONFLICT, INVALID, NOT_FOUND, Problem, UNAVAILABLE, no_topic, of_reply},
    scope::KnownSchedule,
};
use axum::extract::{Query, State};
use contracts::ScheduleId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use units::TimeMs;
use web::{
    api_keys::Operator,
    json::{JsonBody, JsonReply},
    operation::{Operation, delete, get, put},
    protection::Protection,
    tenants::{Right::Manage, Scope},
};

const SCHEDULE: &str = "/api/v1/schedules/{schedule}";
/// Bytes of a schedule's document, of which each is in memory.
const DOCUMENT_BYTES_MAX: usize = 16 << 10;

/// A schedule.
#[derive(Debug, Serialize, JsonSchema)]
struct ScheduleView {
    schedule: ScheduleId,
    #[serde(flatten)]
    spec: ScheduleSpec,
    /// When it posts next; it never does while this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<TimeMs>,
    /// How often it has posted.
    posted: u64,
    /// The time for which it has posted last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<TimeMs>,
}

/// Schedules, by name.
#[derive(Debug, Serialize, JsonSchema)]
struct Schedules {
    schedules: Vec<ScheduleView>,
    /// Ask with `after` set to this for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<ScheduleId>,
}

/// Which schedules.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SchedulesQuery {
    /// Those whose names come after this one.
    #[serde(default)]
    after: Option<ScheduleId>,
    /// So many at the most, up to 500.
    #[serde(default = "hundred")]
    limit: usize,
}

pub(super) fn operations() -> Vec<Operation<Parts>> {
    vec![
        get("/api/v1/schedules", "listSchedules", reads(&[Manage]), list)
            .does("Schedules, by name, with the time at which each posts next.")
            .query::<SchedulesQuery>()
            .replies::<Schedules>("The schedules.")
            .problems(&[&UNAVAILABLE]),
        get(SCHEDULE, "readSchedule", reads(&[Manage]), read)
            .does("A schedule, with the time at which it posts next.")
            .replies::<ScheduleView>("The schedule.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        put(SCHEDULE, "setSchedule", owns(&[Manage]), set)
            .does(
                "Makes a schedule, or changes it: an event is posted to its topic at the times that its cron expression \
                 names, in its time zone. Times that are missed while the service is down or the topic is full are made \
                 up for by one event, for the first of them.",
            )
            .takes::<ScheduleSpec>()
            .replies::<ScheduleView>("The schedule.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        delete(SCHEDULE, "deleteSchedule", owns(&[Manage]), remove)
            .does("Deletes a schedule. What it has posted stays.")
            .replies::<Done>("It is deleted.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
    ]
}

fn view_of(seen: &ScheduleSeen) -> ScheduleView {
    let ScheduleSeen { name, spec, next, posted, last } = seen;
    let (schedule, spec) = (name.clone(), (**spec).clone());
    ScheduleView { schedule, spec, next: *next, posted: *posted, last: *last }
}

async fn list(
    State(running): State<Arc<Running>>,
    scope: Scope,
    Query(SchedulesQuery { after, limit }): Query<SchedulesQuery>,
) -> Result<JsonReply<Schedules>, Problem> {
    let at_most = limit.clamp(1, PAGE_MAX);
    let seen = running.schedules_of(&scope, after, at_most).await?;
    let next = seen.last().map(|last| last.name.clone()).filter(|_| seen.len() == at_most);
    Ok(JsonReply(Schedules { schedules: seen.iter().map(view_of).collect(), next }))
}

async fn read(
    State(running): State<Arc<Running>>,
    KnownSchedule(name): KnownSchedule,
) -> Result<JsonReply<ScheduleView>, Problem> {
    Ok(JsonReply(view_of(&running.schedule(&name).await?)))
}

async fn set(
    operator: Operator,
    State(running): State<Arc<Running>>,
    State(protection): State<Arc<Protection>>,
    KnownSchedule(name): KnownSchedule,
    scope: Scope,
    JsonBody(spec): JsonBody<ScheduleSpec, DOCUMENT_BYTES_MAX>,
) -> Result<JsonReply<ScheduleView>, Problem> {
    if !scope.has_topic(&spec.topic) {
        return Err(no_topic(&spec.topic));
    }
    if running.reserved.contains(&spec.topic) {
        let why = format!("topic {}: only this server posts there; make a topic of your own", spec.topic);
        return Err(Problem::new(&CONFLICT, why));
    }
    let (spec, problem) = judged(&running, name.clone(), spec, protection.now()).await?;
    if let Some(why) = problem {
        return Err(Problem::new(&INVALID, why));
    }
    let mut _makes = None;
    if let Some(of) = scope.of_tenant() {
        _makes = Some(running.makes.lock().await);
        let own = running.schedules_of(&Scope::Tenant(Arc::clone(of)), None, SCHEDULES_MAX).await?;
        if !own.iter().any(|seen| seen.name == name) {
            running.quotas.schedule(of, own.len())?;
        }
    }
    let by = operator.actor("");
    match running.ask(Command::SetSchedule { name: name.clone(), spec: Box::new(spec), by }).await? {
        Reply::Done => Ok(JsonReply(view_of(&running.schedule(&name).await?))),
        other => Err(of_reply(&other)),
    }
}

/// An expression that names no time costs up to a fifth of a second: one is judged at a time,
/// beside everything else.
async fn judged(
    running: &Arc<Running>,
    name: ScheduleId,
    spec: ScheduleSpec,
    now: TimeMs,
) -> Result<(ScheduleSpec, Option<String>), Problem> {
    let _one = running.judges.lock().await;
    let judged = tokio::task::spawn_blocking(move || {
        let problem = spec.problem(&name, now);
        (spec, problem)
    });
    judged.await.map_err(|_| Problem::internal())
}

async fn remove(
    operator: Operator,
    State(running): State<Arc<Running>>,
    KnownSchedule(name): KnownSchedule,
) -> Result<JsonReply<Done>, Problem> {
    done(running.ask(Command::DeleteSchedule { name, by: operator.actor("") }).await?)
}
