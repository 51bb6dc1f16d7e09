//! Whether a task is of the spec that its service has now. docker's interface does not give the spec's version that the
//! swarm itself compares, so the specs are compared.

use serde_json::Value;

use super::{Service, Task};

/// What docker fills in for a service when it shows one, and not for a task.
fn is_default(key: &str, value: &Value) -> bool {
    match key {
        "StopGracePeriod" => *value == 10_000_000_000_u64,
        "Delay" => *value == 5_000_000_000_u64,
        "Condition" => *value == "any",
        "Runtime" => *value == "container",
        "Isolation" => *value == "default",
        _ => false,
    }
}

/// Whether `task` is of `service`'s present spec, and no leftover of the one before.
#[must_use]
pub fn is_of(service: &Service, task: &Task) -> bool {
    // Never updated: there is no spec but this one.
    let only = service.previous_spec.is_none() && service.update_status.is_none();
    let since = service.update_status.as_ref().and_then(|status| status.started_at);
    let made_by_update = matches!((since, task.created_at), (Some(since), Some(made)) if made >= since);
    only || made_by_update || same(&service.spec["TaskTemplate"], &task.spec)
}

fn same(service: &Value, task: &Value) -> bool {
    match (service, task) {
        (Value::Object(service), Value::Object(task)) => {
            let absent = |key: &String| !service.contains_key(key);
            service.iter().all(|(key, value)| {
                let other = task.get(key).unwrap_or(&Value::Null);
                same(value, other) || (other.is_null() && is_default(key, value))
            }) && task.iter().filter(|(key, _)| absent(key)).all(|(_, value)| is_empty(value))
        }
        (Value::Array(service), Value::Array(task)) if service.len() == task.len() => {
            service.iter().zip(task).all(|(service, task)| same(service, task))
        }
        (Value::Object(fields), Value::Null) => {
            fields.iter().all(|(key, value)| is_empty(value) || is_default(key, value) || same(value, &Value::Null))
        }
        (service, task) => service == task || (is_empty(service) && is_empty(task)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}
