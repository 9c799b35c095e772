//! The OpenAPI document, made from the table of endpoints and the types themselves.

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::access_control::Access;
use super::endpoints::{ENDPOINTS, Endpoint, Route};
use super::error::ErrorBody;
use super::requests::{
    DomainRequest, DrillRequest, GdbRequest, PauseRequest, SwitchRequest, UpgradeRequest,
};
use super::responses::{Drilled, Dumped, Opened, Paused, Resumed, Switched, Upgraded};
use crate::observe::event::EventLine;
use crate::observe::{DomainView, FailoverView, Rates, Snapshot};

/// The whole document, OpenAPI 3.1.
pub(super) fn document() -> Value {
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
                socket (mode 0600) and on the dashboard's address. There, changes always take the \
                token; on an address beyond loopback, everything does.",
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
    if let Some(schema) = request(endpoint.route, schemas) {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": schema } },
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
    for parameter in endpoint.query {
        parameters.push(json!({
            "name": parameter.name,
            "in": "query",
            "description": parameter.meaning,
            "schema": { "type": parameter.kind },
        }));
    }
    parameters
}

fn responses(endpoint: &Endpoint, schemas: &mut SchemaGenerator) -> Value {
    let answer = answer(endpoint.route, schemas);
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

/// Schema of an endpoint's answer; of a stream, the schema of one line.
fn answer(route: Route, schemas: &mut SchemaGenerator) -> Value {
    match route {
        Route::State => schema::<Snapshot>(schemas),
        Route::Domain => schema::<DomainView>(schemas),
        Route::Failovers => schema::<Vec<FailoverView>>(schemas),
        Route::Samples => schema::<Vec<Rates>>(schemas),
        Route::Events => schema::<EventLine>(schemas),
        Route::Switch => schema::<Switched>(schemas),
        Route::Drill => schema::<Drilled>(schemas),
        Route::Upgrade => schema::<Upgraded>(schemas),
        Route::Pause => schema::<Paused>(schemas),
        Route::Resume => schema::<Resumed>(schemas),
        Route::Dump => schema::<Dumped>(schemas),
        Route::Gdb => schema::<Opened>(schemas),
        Route::OpenApi => json!({ "type": "object" }),
        Route::Live
        | Route::DumpFile
        | Route::Metrics
        | Route::Page
        | Route::PageStyle
        | Route::PageProgram
        | Route::PageCharts => json!({ "type": "string" }),
    }
}

/// Schema of the body that an endpoint takes, if it takes one.
fn request(route: Route, schemas: &mut SchemaGenerator) -> Option<Value> {
    Some(match route {
        Route::Switch => schema::<SwitchRequest>(schemas),
        Route::Drill => schema::<DrillRequest>(schemas),
        Route::Upgrade => schema::<UpgradeRequest>(schemas),
        Route::Pause => schema::<PauseRequest>(schemas),
        Route::Resume | Route::Dump => schema::<DomainRequest>(schemas),
        Route::Gdb => schema::<GdbRequest>(schemas),
        Route::State
        | Route::Domain
        | Route::Failovers
        | Route::Samples
        | Route::Events
        | Route::Live
        | Route::DumpFile
        | Route::OpenApi
        | Route::Metrics
        | Route::Page
        | Route::PageStyle
        | Route::PageProgram
        | Route::PageCharts => return None,
    })
}

fn schema<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

    #[test]
    fn the_document_in_the_repository_is_the_one_that_is_served() {
        let text = format!("{:#}\n", document());
        if std::env::var_os("WARMSPARE_UPDATE_DOCS").is_some() {
            std::fs::write(FILE, &text).unwrap();
        }
        let kept = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            kept == text,
            "docs/openapi.json is outdated: set WARMSPARE_UPDATE_DOCS=1 and run this test again"
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
