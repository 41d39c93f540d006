//! The OpenAPI 3.1 document of a context (https://spec.openapis.org/oas/v3.1.1), from its table of
//! operations and the types that these name.

use crate::{
    operation::{
        ASKS_BY_TAG, Access, Callers, Content, Credential, Field, RETRY_AFTER, Row, SchemaOf, Sent, TAG,
    },
    problem::{Document as ProblemDocument, Kind},
    tenants::Right,
};
use schemars::{
    Schema, SchemaGenerator, generate::SchemaSettings, json_schema, transform::RecursiveTransform,
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The parts of a document other than its operations.
#[derive(Debug)]
pub struct About {
    pub title: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    pub listeners: &'static [Listener],
    /// The parameters of paths, by their names.
    pub path_parameters: &'static [PathParameter],
}

/// A listener, as a document describes it.
#[derive(Debug)]
pub struct Listener {
    pub callers: Callers,
    /// The group of its operations.
    pub tag: &'static str,
    /// Its default URL.
    pub url: &'static str,
    pub description: &'static str,
}

/// A parameter of paths.
#[derive(Debug)]
pub struct PathParameter {
    pub name: &'static str,
    pub means: &'static str,
    pub schema: fn() -> SchemaOf,
}

/// Describes these operations, each on the listener of these callers, as JSON text. Panics if the
/// table contradicts itself: two operations with one id, a parameter without a description, two
/// types with one name.
pub fn document(about: &About, rows: &[(Callers, Row)]) -> String {
    let mut schemas = Schemas::new();
    let mut paths = BTreeMap::<&str, BTreeMap<String, OperationObject>>::new();
    let mut ids = BTreeMap::<&str, (&str, &str)>::new();
    let mut credentials: Vec<&Credential> = Vec::new();
    let mut tags: Vec<&str> = Vec::new();
    for (callers, row) in rows.iter().filter(|(_, row)| row.is_described()) {
        let known = ids.insert(row.id, (row.method, row.path));
        if known == Some((row.method, row.path)) {
            // The operation is on another listener too, which is described first.
            continue;
        }
        assert!(known.is_none(), "two operations are called {}", row.id);
        if let Access::Credential(credential) = row.access
            && !credentials.iter().any(|known| known.name == credential.name)
        {
            credentials.push(credential);
        }
        let operation = OperationObject::new(about, *callers, row, &mut schemas);
        if !tags.contains(&operation.tags[0]) {
            tags.push(operation.tags[0]);
        }
        paths.entry(row.path).or_default().insert(row.method.to_ascii_lowercase(), operation);
    }
    let servers = about.listeners.iter();
    let document = Document {
        openapi: "3.1.1",
        info: Info {
            title: about.title,
            version: "1",
            summary: about.summary,
            description: about.description,
            license: License { name: "Apache-2.0", identifier: "Apache-2.0" },
        },
        servers: servers.map(|l| Server { url: l.url, description: l.description }).collect(),
        tags: tags.into_iter().map(|name| Tag { name }).collect(),
        paths,
        components: Components {
            responses: std::mem::take(&mut schemas.problems),
            schemas: schemas.all(),
            security_schemes: credentials
                .into_iter()
                .map(|credential| (credential.name, SecurityScheme::of(credential.sent)))
                .chain([(API_KEY, SecurityScheme::of(Sent::Bearer("fgk_<name>_<secret>")))])
                .collect(),
        },
    };
    let mut text = serde_json::to_string_pretty(&document).expect("a document has no map with odd keys");
    text.push('\n');
    text
}

/// The security scheme of API keys.
const API_KEY: &str = "apiKey";
const PROBLEM: &str = "application/problem+json";

/// The types that were named so far. Bodies of requests are described as they are deserialized,
/// bodies of answers as they are serialized.
struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
    /// The sets of problems of one status that some operation may answer with, by their names.
    problems: BTreeMap<String, Response>,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        let plain = settings().with_transform(PLAIN);
        Self {
            read: plain.clone().for_deserialize().into_generator(),
            written: plain.with_transform(NEVER_NULL).for_serialize().into_generator(),
            problems: BTreeMap::new(),
        }
    }

    fn all(mut self) -> Map<String, Value> {
        let mut all = self.written.take_definitions(true);
        for (name, schema) in self.read.take_definitions(true) {
            let other = all.insert(name.clone(), schema.clone());
            assert!(
                other.is_none_or(|other| other == schema),
                "{name} is read in another form than it is written: give the two forms names of their own"
            );
        }
        all
    }
}

type Change = RecursiveTransform<fn(&mut Schema)>;

const PLAIN: Change = RecursiveTransform(plainly);
const NEVER_NULL: Change = RecursiveTransform(without_nulls);

/// Removes what concerns Rust only: the width of numbers, and the line ends of comments. A required
/// field has no default.
fn plainly(schema: &mut Schema) {
    if let Some(format) = schema.get("format").and_then(Value::as_str)
        && (format.starts_with("uint") || format.starts_with("int") && format != "int64")
    {
        schema.remove("format");
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
    let required = required_of(schema);
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (_, property) in properties.iter_mut().filter(|(name, _)| required.contains(*name)) {
        property.as_object_mut().map(|property| property.remove("default"));
    }
}

fn required_of(schema: &Schema) -> Vec<String> {
    let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// An optional field of an answer is left out, and never null.
fn without_nulls(schema: &mut Schema) {
    let required = required_of(schema);
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    properties.iter_mut().filter(|(name, _)| !required.contains(*name)).for_each(|(_, of)| never_null(of));
}

fn never_null(property: &mut Value) {
    let Some(property) = property.as_object_mut() else { return };
    if let Some(types) = property.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|one| one != "null");
        if let [only] = &**types {
            let only = only.clone();
            property.insert("type".to_owned(), only);
        }
    }
    if let Some(forms) = property.get_mut("anyOf").and_then(Value::as_array_mut) {
        forms.retain(|form| form.get("type").is_none_or(|one| one != "null"));
        if let [Value::Object(only)] = &mut **forms {
            let only = std::mem::take(only);
            property.remove("anyOf");
            property.extend(only);
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    openapi: &'static str,
    info: Info<'a>,
    servers: Vec<Server<'a>>,
    tags: Vec<Tag<'a>>,
    paths: BTreeMap<&'a str, BTreeMap<String, OperationObject<'a>>>,
    components: Components<'a>,
}

#[derive(Serialize)]
struct Info<'a> {
    title: &'a str,
    version: &'a str,
    summary: &'a str,
    description: &'a str,
    license: License,
}

#[derive(Serialize)]
struct License {
    name: &'static str,
    identifier: &'static str,
}

#[derive(Serialize)]
struct Server<'a> {
    url: &'a str,
    description: &'a str,
}

#[derive(Serialize)]
struct Tag<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Components<'a> {
    responses: BTreeMap<String, Response>,
    schemas: Map<String, Value>,
    security_schemes: BTreeMap<&'a str, SecurityScheme>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum SecurityScheme {
    ApiKey {
        #[serde(rename = "in")]
        place: &'static str,
        name: &'static str,
    },
    #[serde(rename_all = "camelCase")]
    Http { scheme: &'static str, bearer_format: &'static str },
}

impl SecurityScheme {
    fn of(sent: Sent) -> Self {
        match sent {
            Sent::Field(name) => Self::ApiKey { place: "header", name },
            Sent::Query(name) => Self::ApiKey { place: "query", name },
            Sent::Bearer(bearer_format) => Self::Http { scheme: "bearer", bearer_format },
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OperationObject<'a> {
    tags: [&'a str; 1],
    operation_id: &'a str,
    summary: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The role that the API key needs.
    #[serde(rename = "x-role", skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    /// The rights of which a tenant's key needs one.
    #[serde(rename = "x-rights", skip_serializing_if = "<[Right]>::is_empty")]
    rights: &'static [Right],
    security: Vec<BTreeMap<&'a str, [&'a str; 0]>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<Parameter<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body: Option<RequestBody>,
    responses: BTreeMap<String, ResponseOrReference>,
}

impl<'a> OperationObject<'a> {
    fn new(about: &'a About, callers: Callers, row: &'a Row, schemas: &mut Schemas) -> Self {
        let listener = about.listeners.iter().find(|listener| listener.callers == callers);
        let tag = row.tag.or(listener.map(|listener| listener.tag)).expect("each listener is described");
        let scheme = match row.access {
            Access::Open => None,
            Access::Credential(credential) => Some(credential.name),
            Access::Role(_) | Access::Shared(..) => Some(API_KEY),
        };
        let (role, rights) = (row.access.role().map(|role| role.to_string()), row.access.rights());
        let says = |role: &String| match rights {
            [] => format!("Role: {role}."),
            [right] => format!("Role: {role}; or a tenant's key with the right {right}."),
            several => {
                let names: Vec<String> = several.iter().map(Right::to_string).collect();
                format!("Role: {role}; or a tenant's key with the right {}.", names.join(" or "))
            }
        };
        Self {
            tags: [tag],
            operation_id: row.id,
            summary: row.does,
            description: role.as_ref().map(says),
            role,
            rights,
            security: scheme.map(|name| BTreeMap::from([(name, [])])).into_iter().collect(),
            parameters: parameters(about, row, schemas),
            request_body: row.body.map(|body| RequestBody {
                required: !body.is_optional,
                content: content(body.content, &mut schemas.read),
            }),
            responses: responses(row, schemas),
        }
    }
}

#[derive(Serialize)]
struct Parameter<'a> {
    name: String,
    #[serde(rename = "in")]
    place: &'static str,
    required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    schema: Value,
}

fn parameters<'a>(about: &'a About, row: &'a Row, schemas: &mut Schemas) -> Vec<Parameter<'a>> {
    let names = row.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let in_path = names.map(|name| {
        let known = about.path_parameters.iter().find(|parameter| parameter.name == name);
        let known = known.unwrap_or_else(|| panic!("{}: nothing explains the parameter {name}", row.path));
        Parameter {
            name: name.to_owned(),
            place: "path",
            required: true,
            description: Some(known.means),
            schema: plain((known.schema)(), &schemas.read),
        }
    });
    let mut parameters: Vec<_> = in_path.collect();
    let asks = row.is_tagged.then_some(ASKS_BY_TAG);
    parameters.extend(row.fields.iter().chain(&asks).map(|field| Parameter {
        name: field.name.to_owned(),
        place: "header",
        required: field.is_required,
        description: Some(field.means),
        schema: plain(field.schema, &schemas.read),
    }));
    let Some(query) = row.query else { return parameters };
    let query = plain(query, &schemas.read);
    let required = query.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    for (name, schema) in query.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let mut schema = schema.clone();
        // A query has no null.
        never_null(&mut schema);
        parameters.push(Parameter {
            name: name.clone(),
            place: "query",
            required: required.iter().any(|required| required == name),
            description: None,
            schema,
        });
    }
    parameters
}

fn described(of: SchemaOf, generator: &mut SchemaGenerator) -> Value {
    let mut schema = of(generator);
    for transform in generator.transforms_mut() {
        transform.transform(&mut schema);
    }
    schema.to_value()
}

/// A description without references.
fn plain(schema: SchemaOf, like: &SchemaGenerator) -> Value {
    let mut settings = like.settings().clone();
    settings.inline_subschemas = true;
    described(schema, &mut settings.into_generator())
}

#[derive(Serialize)]
struct RequestBody {
    required: bool,
    content: BTreeMap<&'static str, MediaType>,
}

#[derive(Serialize)]
struct MediaType {
    schema: Value,
}

fn content(content: Content, generator: &mut SchemaGenerator) -> BTreeMap<&'static str, MediaType> {
    BTreeMap::from([(content.media_type, MediaType { schema: described(content.schema, generator) })])
}

#[derive(Serialize)]
#[serde(untagged)]
enum ResponseOrReference {
    Response(Response),
    Reference {
        #[serde(rename = "$ref")]
        to: String,
    },
}

#[derive(Serialize)]
struct Response {
    description: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'static str, Header>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    content: BTreeMap<&'static str, MediaType>,
}

#[derive(Serialize)]
struct Header {
    description: &'static str,
    required: bool,
    schema: Value,
}

impl Header {
    fn of(field: Field, like: &SchemaGenerator) -> (&'static str, Self) {
        let Field { name, means, schema, is_required } = field;
        (name, Self { description: means, required: is_required, schema: plain(schema, like) })
    }
}

fn responses(row: &Row, schemas: &mut Schemas) -> BTreeMap<String, ResponseOrReference> {
    let mut responses = BTreeMap::new();
    for reply in &row.replies {
        let tag = row.is_tagged.then_some(TAG);
        let headers =
            reply.fields.iter().chain(&tag).map(|&field| Header::of(field, &schemas.written)).collect();
        let content = content(reply.content, &mut schemas.written);
        let response = Response { description: reply.means.to_owned(), headers, content };
        responses.insert(reply.status.to_string(), ResponseOrReference::Response(response));
    }
    assert!(!responses.is_empty(), "{}: nothing is said of its answer", row.id);
    if row.is_tagged {
        let headers = BTreeMap::from([Header::of(TAG, &schemas.written)]);
        let response =
            Response { description: "It is still so.".into(), headers, content: BTreeMap::default() };
        responses.insert("304".into(), ResponseOrReference::Response(response));
    }
    let problems = row.problems();
    for of_status in problems.chunk_by(|a, b| a.status == b.status) {
        let status = of_status[0].status.to_string();
        let slugs = of_status.iter().map(|kind| kind.slug);
        let name = std::iter::once(&*status).chain(slugs).collect::<Vec<_>>().join(".");
        let to = format!("#/components/responses/{name}");
        if !schemas.problems.contains_key(&name) {
            let response = problem(of_status, schemas);
            schemas.problems.insert(name, response);
        }
        let known = responses.insert(status, ResponseOrReference::Reference { to });
        assert!(known.is_none(), "{}: a status is an answer and a problem", row.id);
    }
    responses
}

/// The problems of one status.
fn problem(kinds: &[&'static Kind], schemas: &mut Schemas) -> Response {
    let says = |kind: &&Kind| format!("`{}`: {}.", kind.slug, kind.title);
    let description = kinds.iter().map(says).collect::<Vec<_>>().join(" ");
    let mut headers = BTreeMap::new();
    if kinds.iter().any(|kind| kind.scheme.is_some()) {
        let text: SchemaOf = |_| json_schema!({ "type": "string" });
        let challenge =
            Field { name: "WWW-Authenticate", means: "The scheme.", schema: text, is_required: true };
        headers.extend([Header::of(challenge, &schemas.written)]);
    }
    if kinds.iter().any(|kind| kind.may_pass()) {
        let is_required = kinds.iter().all(|kind| kind.may_pass());
        headers.extend([Header::of(Field { is_required, ..RETRY_AFTER }, &schemas.written)]);
    }
    let document = Content { media_type: PROBLEM, schema: |g| g.subschema_for::<ProblemDocument<'static>>() };
    Response { description, headers, content: content(document, &mut schemas.written) }
}
