//! The OpenAPI document, made from the table of endpoints and the types themselves.

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::actions::{Drilled, Dumped, Opened, Paused, Resumed, Switched, Upgraded};
use super::door::Access;
use super::error::ErrorBody;
use super::requests::{
    DomainRequest, DrillRequest, GdbRequest, PauseRequest, SwitchRequest, UpgradeRequest,
};
use super::routes::{ENDPOINTS, Endpoint};
use crate::observe::Snapshot;
use crate::observe::event::{EventLine, FailoverView};
use crate::observe::snapshot::{DomainView, Rates};

/// The whole document, OpenAPI 3.1.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation(endpoint, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "warmspare control API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "State, events, metrics and actions of a running warmspare: on its Unix \
                socket (mode 0600), and on the dashboard's address, where changes always take the \
                token, and everything does beyond loopback.",
            "license": { "name": "Apache-2.0 OR MIT" },
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas.take_definitions(true),
        },
    })
}

fn operation(endpoint: &Endpoint, schemas: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "summary": endpoint.summary,
        "responses": responses(endpoint, schemas),
    });
    let parameters = parameters(endpoint);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if endpoint.method == "post" {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": request(endpoint.path, schemas) } },
        });
    }
    if endpoint.access != Access::Free {
        operation["security"] = json!([{}, { "token": [] }]);
    }
    operation
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let mut parameters = Vec::new();
    for name in endpoint.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        parameters.push(json!({
            "name": name, "in": "path", "required": true, "schema": { "type": "string" },
        }));
    }
    for (name, meaning) in endpoint.query {
        let kind = if *name == "follow" { "boolean" } else { "integer" };
        parameters.push(json!({
            "name": name, "in": "query", "description": meaning, "schema": { "type": kind },
        }));
    }
    parameters
}

fn responses(endpoint: &Endpoint, schemas: &mut SchemaGenerator) -> Value {
    let answer = answer(endpoint.path, schemas);
    let content: Map<_, _> = endpoint
        .answers
        .iter()
        .map(|kind| ((*kind).to_owned(), json!({ "schema": answer })))
        .collect();
    let errors: Vec<_> = endpoint.errors.iter().map(|code| json!(code)).collect();
    let error = json!({
        "description": "An error",
        "content": { "application/json": { "schema": schema::<ErrorBody>(schemas) } },
        "x-codes": errors,
    });
    json!({ "200": { "description": endpoint.summary, "content": content }, "default": error })
}

/// Shape of what a path answers; of a stream, of one line.
fn answer(path: &str, schemas: &mut SchemaGenerator) -> Value {
    match path {
        "/api/v1/state" => schema::<Snapshot>(schemas),
        "/api/v1/domains/{name}" => schema::<DomainView>(schemas),
        "/api/v1/failovers" => schema::<Vec<FailoverView>>(schemas),
        "/api/v1/samples" => schema::<Vec<Rates>>(schemas),
        "/api/v1/events" => schema::<EventLine>(schemas),
        "/api/v1/switch" => schema::<Switched>(schemas),
        "/api/v1/drill" => schema::<Drilled>(schemas),
        "/api/v1/upgrade" => schema::<Upgraded>(schemas),
        "/api/v1/pause" => schema::<Paused>(schemas),
        "/api/v1/resume" => schema::<Resumed>(schemas),
        "/api/v1/dump" => schema::<Dumped>(schemas),
        "/api/v1/gdb" => schema::<Opened>(schemas),
        "/api/v1/openapi.json" => json!({ "type": "object" }),
        _ => json!({ "type": "string" }),
    }
}

/// Shape of what a path takes.
fn request(path: &str, schemas: &mut SchemaGenerator) -> Value {
    match path {
        "/api/v1/switch" => schema::<SwitchRequest>(schemas),
        "/api/v1/drill" => schema::<DrillRequest>(schemas),
        "/api/v1/upgrade" => schema::<UpgradeRequest>(schemas),
        "/api/v1/pause" => schema::<PauseRequest>(schemas),
        "/api/v1/resume" | "/api/v1/dump" => schema::<DomainRequest>(schemas),
        "/api/v1/gdb" => schema::<GdbRequest>(schemas),
        _ => json!({}),
    }
}

fn schema<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

    #[test]
    fn the_document_in_the_repository_is_the_servers() {
        let text = format!("{:#}\n", document());
        if std::env::var_os("WARMSPARE_UPDATE_DOCS").is_some() {
            std::fs::write(FILE, &text).unwrap();
        }
        let kept = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            kept == text,
            "docs/openapi.json is old: set WARMSPARE_UPDATE_DOCS=1 and test again"
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let known = document["components"]["schemas"].as_object().unwrap();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(known.contains_key(name), "{name}");
        }
    }
}
