//! A request to the API server, as one call of the world.

use http::Method;
use serde_json::{Map, Value, json};

use crate::wire::{ApiCall, CallBody, Service};

impl ApiCall {
    /// Reads a request to an API server. The action is the verb of RBAC with the resource, such as `ListPods`. A request that
    /// no client of ours sends keeps its method and path as its action.
    #[must_use]
    pub fn to_api_server(region: &str, method: &Method, path: &str, query: &str, body: &[u8]) -> Self {
        let (action, mut parameters) =
            target(method, path).unwrap_or_else(|| (format!("{method} {path}"), Map::new()));
        for (key, value) in form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| !key.is_empty()) {
            parameters.insert(key.into_owned(), json!(value));
        }
        if !body.is_empty() {
            parameters.insert("body".to_owned(), serde_json::from_slice(body).unwrap_or_default());
        }
        let body = CallBody::Json(Value::Object(parameters));
        Self { service: Service::Kubernetes, account: None, region: region.to_owned(), action, body }
    }
}

/// Returns the action, and the namespace and the name in the path.
fn target(method: &Method, path: &str) -> Option<(String, Map<String, Value>)> {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    if parts == ["version"] && method == Method::GET {
        return Some(("GetVersion".to_owned(), Map::new()));
    }
    let prefix = match *parts.first()? {
        "api" => 2,
        "apis" => 3,
        _ => return None,
    };
    let mut rest = parts.split_off(prefix.min(parts.len()));
    let mut parameters = Map::new();
    if rest.first() == Some(&"namespaces") && rest.len() > 2 {
        parameters.insert("namespace".to_owned(), json!(rest[1]));
        rest.drain(..2);
    }
    let (verb, resource) = match (rest.as_slice(), method) {
        ([resource], &Method::GET) => ("List", *resource),
        ([resource, name], &Method::GET | &Method::PATCH) => {
            parameters.insert("name".to_owned(), json!(name));
            (if method == Method::GET { "Get" } else { "Patch" }, *resource)
        }
        (["pods", name, "eviction"], &Method::POST) => {
            parameters.insert("name".to_owned(), json!(name));
            ("Evict", "pods")
        }
        _ => return None,
    };
    let (first, others) = resource.split_at_checked(1)?;
    Some((format!("{verb}{}{others}", first.to_ascii_uppercase()), parameters))
}
