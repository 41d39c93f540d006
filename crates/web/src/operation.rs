//! The table of a context's operations. A row describes one operation: method, path, name, who may
//! call it, what is sent, what is returned, and which problems. The router, the check of roles, the
//! OpenAPI document ([`crate::openapi`]), the labels of metrics, the page of problems, and the
//! tests that visit every row are made from it.

use crate::{
    api_keys::{ApiKeys, Role, Wanted},
    cors::Cors,
    net::Peer,
    precondition::tagged,
    problem::{self, BAD_REQUEST, Explained, INTERNAL, Kind},
    protection::{PAGE, PREFLIGHT},
    tenants::Right,
};
use axum::{
    Router,
    extract::{Request, State},
    handler::Handler,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};

/// Who may call an operation.
#[derive(Debug, Clone, Copy)]
pub enum Access {
    /// Any caller that reaches the listener.
    Open,
    /// A caller with a credential of the context, which its handler checks.
    Credential(&'static Credential),
    /// An operator whose API key has at least this role. It is checked before the handler is
    /// called, which gets the [`Operator`](crate::api_keys::Operator).
    Role(Role),
    /// The same, or a tenant whose key has one of these rights. The handler gets the
    /// [`Scope`](crate::tenants::Scope), and shows a tenant nothing beyond it.
    Shared(Role, &'static [Right]),
}

impl Access {
    /// The least role of an operator's key.
    pub fn role(&self) -> Option<Role> {
        match *self {
            Self::Role(role) | Self::Shared(role, _) => Some(role),
            Self::Open | Self::Credential(_) => None,
        }
    }

    /// The rights of which a tenant's key needs one; without any, it is refused.
    pub fn rights(&self) -> &'static [Right] {
        match self {
            Self::Shared(_, rights) => rights,
            Self::Role(_) | Self::Open | Self::Credential(_) => &[],
        }
    }
}

/// A credential that the context itself issues and checks.
#[derive(Debug)]
pub struct Credential {
    /// The name of its security scheme in the document.
    pub name: &'static str,
    pub sent: Sent,
    /// The problem for a caller who sends none.
    pub missing: &'static Kind,
    /// The problem for a caller whose credential is not valid.
    pub refused: &'static Kind,
}

/// Where a request carries a credential.
#[derive(Debug, Clone, Copy)]
pub enum Sent {
    /// In a field with this name.
    Field(&'static str),
    /// In the query parameter with this name.
    Query(&'static str),
    /// In `Authorization: Bearer …`, in this format.
    Bearer(&'static str),
}

/// Whom a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Everybody, and pages of other origins.
    Public,
    /// Operators and their machines.
    Operators,
}

/// How a type is described: `schema_of::<T>()`.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The description of a type.
pub fn schema_of<T: JsonSchema>() -> SchemaOf {
    |generator| generator.subschema_for::<T>()
}

/// Text, or lines of text.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
pub struct Text(#[expect(dead_code, reason = "it is only described")] String);

/// The kind of a body.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    pub media_type: &'static str,
    pub schema: SchemaOf,
}

/// The body of a request.
#[derive(Debug, Clone, Copy)]
pub struct Body {
    pub content: Content,
    /// Whether it is optional.
    pub is_optional: bool,
}

/// An answer that is not a problem.
#[derive(Debug, Clone)]
pub struct Reply {
    /// An HTTP status code.
    pub status: u16,
    pub means: &'static str,
    pub content: Content,
    pub fields: Vec<Field>,
}

/// A field of a request or of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub means: &'static str,
    pub schema: SchemaOf,
    pub is_required: bool,
}

/// A row of the table: the description of an operation.
#[derive(Debug, Clone)]
pub struct Row {
    /// In capital letters.
    pub method: &'static str,
    /// With parameters in braces.
    pub path: &'static str,
    /// Its name in the document, in metrics and in tests; unique within a context.
    pub id: &'static str,
    pub access: Access,
    /// What it does, in one line; empty for an operation that no document describes.
    pub does: &'static str,
    /// Whether the loops serve it themselves, where a request is plain enough: then its handler
    /// here is for the other requests, and for TLS.
    pub is_hot: bool,
    /// Whether it takes a form of the operators' pages: then a session is sufficient too, and the
    /// handler gets its operator from [`SignedForm`](crate::form::SignedForm) only.
    pub is_form: bool,
    /// Whether its answers have an `ETag`, and no body for a caller that has it already.
    pub is_tagged: bool,
    /// The group in the document, if it is not its listener's.
    pub tag: Option<&'static str>,
    /// A type whose fields are the parameters of the query.
    pub query: Option<SchemaOf>,
    pub fields: Vec<Field>,
    pub body: Option<Body>,
    pub replies: Vec<Reply>,
    problems: Vec<&'static Kind>,
}

impl Row {
    /// Its label in metrics.
    fn label(&self) -> &'static str {
        match self.is_described() {
            true => self.id,
            false if self.method == "OPTIONS" => PREFLIGHT,
            false => PAGE,
        }
    }

    /// Whether it is part of the API, and not a page or a file.
    pub fn is_described(&self) -> bool {
        !self.does.is_empty()
    }

    /// The kinds of problems that its handler, and the checks before it, may answer with, in the
    /// order of their status.
    pub fn problems(&self) -> Vec<&'static Kind> {
        // A tenant's key is refused wherever it has nothing to ask.
        let mut kinds: Vec<&'static Kind> = vec![&BAD_REQUEST, &INTERNAL, &problem::RIGHT_REFUSED];
        match self.access {
            Access::Open => {}
            Access::Credential(of) => kinds.extend([of.missing, of.refused]),
            Access::Role(role) | Access::Shared(role, _) => {
                kinds.extend([&problem::KEY_MISSING, &problem::KEY_REFUSED, &problem::UNAVAILABLE]);
                kinds.extend((role > Role::ReadOnly).then_some(&problem::ROLE_REFUSED));
            }
        }
        kinds.extend([&problem::ADDRESS_DENIED, &problem::RATE_LIMITED]);
        if self.body.is_some() {
            kinds.extend([&problem::BODY_TIMEOUT, &problem::BODY_TOO_LARGE, &problem::MEDIA_TYPE]);
            kinds.push(&problem::INVALID);
        }
        if self.query.is_some() {
            kinds.push(&problem::INVALID);
        }
        kinds.extend(&self.problems);
        kinds.sort_by_key(|kind| (kind.status, kind.slug));
        kinds.dedup_by(|a, b| std::ptr::eq(*a, *b));
        kinds
    }
}

/// A row and its handler.
#[derive(Debug)]
pub struct Operation<S> {
    pub row: Row,
    pub(crate) handler: MethodRouter<S>,
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident: $method:literal, $filter:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name<S, T, H>(path: &'static str, id: &'static str, access: Access, handler: H) -> Operation<S>
        where
            S: Clone + Send + Sync + 'static,
            T: 'static,
            H: Handler<T, S>,
        {
            Operation::new($method, path, id, access, on(MethodFilter::$filter, handler))
        }
    )*};
}

methods! {
    /// `GET`, which includes `HEAD`.
    get: "GET", GET;
    /// `POST`.
    post: "POST", POST;
    /// `PUT`.
    put: "PUT", PUT;
    /// `DELETE`.
    delete: "DELETE", DELETE;
}

impl<S> Operation<S> {
    pub(crate) fn new(
        method: &'static str,
        path: &'static str,
        id: &'static str,
        access: Access,
        handler: MethodRouter<S>,
    ) -> Self {
        let row = Row {
            method,
            path,
            id,
            access,
            does: "",
            is_hot: false,
            is_form: false,
            is_tagged: false,
            tag: None,
            query: None,
            fields: Vec::new(),
            body: None,
            replies: Vec::new(),
            problems: Vec::new(),
        };
        Self { row, handler }
    }

    /// The same operation with its state, so that it can stand in a table beside those of others.
    pub fn with_state(self, state: S) -> Operation<()>
    where
        S: Clone + Send + Sync + 'static,
    {
        Operation { row: self.row, handler: self.handler.with_state(state) }
    }

    /// What it does, in one line. It makes the operation part of the API.
    pub fn does(mut self, does: &'static str) -> Self {
        self.row.does = does;
        self
    }

    /// The loops serve it themselves, where a request is plain enough.
    pub fn hot(mut self) -> Self {
        self.row.is_hot = true;
        self
    }

    /// It takes a form of the operators' pages.
    pub fn form(mut self) -> Self {
        self.row.is_form = true;
        self
    }

    /// Its answers have an `ETag`; `If-None-Match` is heeded.
    pub fn tagged(mut self) -> Self {
        self.row.is_tagged = true;
        self
    }

    /// Its group in the document.
    pub fn tag(mut self, tag: &'static str) -> Self {
        self.row.tag = Some(tag);
        self
    }

    /// The type whose fields are the parameters of its query.
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.row.query = Some(schema_of::<T>());
        self
    }

    /// A field that a request must have.
    pub fn field<T: JsonSchema>(mut self, name: &'static str, means: &'static str) -> Self {
        self.row.fields.push(Field { name, means, schema: schema_of::<T>(), is_required: true });
        self
    }

    /// A field that a request may have.
    pub fn may_have<T: JsonSchema>(mut self, name: &'static str, means: &'static str) -> Self {
        self.row.fields.push(Field { name, means, schema: schema_of::<T>(), is_required: false });
        self
    }

    /// A JSON body.
    pub fn takes<T: JsonSchema>(mut self) -> Self {
        let content = Content { media_type: "application/json", schema: schema_of::<T>() };
        self.row.body = Some(Body { content, is_optional: false });
        self
    }

    /// A JSON body, or none.
    pub fn may_take<T: JsonSchema>(mut self) -> Self {
        let content = Content { media_type: "application/json", schema: schema_of::<T>() };
        self.row.body = Some(Body { content, is_optional: true });
        self
    }

    /// A body of another type.
    pub fn takes_as<T: JsonSchema>(mut self, media_type: &'static str) -> Self {
        let content = Content { media_type, schema: schema_of::<T>() };
        self.row.body = Some(Body { content, is_optional: false });
        self
    }

    /// 200 with JSON, and what it means.
    pub fn replies<T: JsonSchema>(self, means: &'static str) -> Self {
        self.replies_as::<T>("application/json", means)
    }

    /// 200 with another type.
    pub fn replies_as<T: JsonSchema>(mut self, media_type: &'static str, means: &'static str) -> Self {
        let content = Content { media_type, schema: schema_of::<T>() };
        self.row.replies.push(Reply { status: 200, means, content, fields: Vec::new() });
        self
    }

    /// A field of the last answer that was added.
    pub fn with_field<T: JsonSchema>(mut self, name: &'static str, means: &'static str) -> Self {
        let field = Field { name, means, schema: schema_of::<T>(), is_required: true };
        self.row.replies.iter_mut().last().expect("an answer was named before").fields.push(field);
        self
    }

    /// 202 with JSON.
    pub fn accepts<T: JsonSchema>(mut self, means: &'static str) -> Self {
        let content = Content { media_type: "application/json", schema: schema_of::<T>() };
        self.row.replies.push(Reply { status: 202, means, content, fields: Vec::new() });
        self
    }

    /// 202 with JSON and `Retry-After`.
    pub fn may_accept<T: JsonSchema>(mut self, means: &'static str) -> Self {
        let content = Content { media_type: "application/json", schema: schema_of::<T>() };
        let fields = vec![RETRY_AFTER];
        self.row.replies.push(Reply { status: 202, means, content, fields });
        self
    }

    /// The problems that its handler may answer with, in addition to those that follow from the
    /// row.
    pub fn problems(mut self, kinds: &[&'static Kind]) -> Self {
        self.row.problems.extend(kinds);
        self
    }
}

/// `ETag` of an answer, and what asks by it.
pub(crate) const TAG: Field = Field {
    name: "ETag",
    means: "Which state of it this is.",
    schema: |generator| generator.subschema_for::<Text>(),
    is_required: true,
};
pub(crate) const ASKS_BY_TAG: Field = Field {
    name: "If-None-Match",
    means: "The `ETag` of the answer that the caller has: if it is still so, 304 without a body.",
    schema: |generator| generator.subschema_for::<Text>(),
    is_required: false,
};

/// `Retry-After`, for problems that always have it.
pub(crate) const RETRY_AFTER: Field = Field {
    name: "Retry-After",
    means: "Seconds.",
    schema: |_| schemars::json_schema!({ "type": "integer", "minimum": 1 }),
    is_required: true,
};

/// Makes a router from a table. Roles are checked here, before a handler is called.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(
    operations: Vec<Operation<S>>,
    keys: &Arc<ApiKeys>,
) -> Router<S> {
    let serves_tenants = operations.iter().any(|operation| !operation.row.access.rights().is_empty());
    operations.into_iter().fold(Router::new(), |router, Operation { row, handler }| {
        let problems = row.problems();
        let guard = Guard { row: Arc::new(row), problems, keys: Arc::clone(keys), serves_tenants };
        let path = guard.row.path;
        // Not for methods that the path does not have: they have no row.
        let handler = handler.route_layer(middleware::from_fn_with_state(Arc::new(guard), guarded));
        router.route(path, handler)
    })
}

/// `OPTIONS` of every path of the API in a table.
pub(crate) fn preflights<S: Clone + Send + Sync + 'static>(
    operations: &[Operation<S>],
    cors: &Arc<Cors>,
) -> Vec<Operation<S>> {
    let mut methods = BTreeMap::<&'static str, String>::new();
    for row in operations.iter().map(|operation| &operation.row).filter(|row| row.path.starts_with("/api/")) {
        let known = methods.entry(row.path).or_default();
        known.push_str(row.method);
        known.push_str(if row.method == "GET" { ", HEAD, " } else { ", " });
    }
    let operation = |(path, known): (&'static str, String)| {
        let methods = HeaderValue::try_from(known + "OPTIONS").expect("methods are letters");
        let cors = Arc::clone(cors);
        let answer = move |headers: HeaderMap| async move { cors.preflight(&headers, methods) };
        Operation::new("OPTIONS", path, PREFLIGHT, Access::Open, on(MethodFilter::OPTIONS, answer))
    };
    methods.into_iter().map(operation).collect()
}

struct Guard {
    row: Arc<Row>,
    problems: Vec<&'static Kind>,
    keys: Arc<ApiKeys>,
    /// Whether tenants have anything to ask on this listener.
    serves_tenants: bool,
}

/// Which operation answered, for metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered(pub(crate) &'static str);

async fn guarded(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let let_in = match guard.row.access {
        Access::Role(role) | Access::Shared(role, _) => {
            let wanted = Wanted { role, rights: guard.row.access.rights(), is_form: guard.row.is_form };
            guard.keys.authorize(headers, wanted).map(Some)
        }
        Access::Open if guard.serves_tenants => Ok(None),
        Access::Open | Access::Credential(_) => guard.keys.refuse_tenants(headers).map(|()| None),
    };
    let response = match let_in {
        Ok(_) if guard.ignores_precondition(headers) => {
            let why = "If-Match, If-None-Match: this operation does not look at them, so it was not done";
            problem::Problem::new(&BAD_REQUEST, why).into_response()
        }
        Ok(caller) => {
            if let Some(caller) = caller {
                caller.note(request.extensions_mut());
            }
            if guard.row.is_tagged {
                let asked = request.headers().get_all(header::IF_NONE_MATCH).iter().cloned().collect();
                let is_open = matches!(guard.row.access, Access::Open);
                tagged(asked, is_open, next.run(request).await).await
            } else {
                next.run(request).await
            }
        }
        Err(problem) => {
            // An attack on the keys is seen in the log, and does not fill it.
            let refusals = [&problem::KEY_REFUSED, &problem::ROLE_REFUSED, &problem::RIGHT_REFUSED];
            let is_refused = refusals.into_iter().any(|kind| problem.is(kind));
            if is_refused && let Some(count) = guard.keys.refused() {
                let address = request.extensions().get::<Peer>().map(|Peer(address)| address.to_string());
                let operation = guard.row.id;
                tracing::warn!(address, operation, count, "API key refused: {}", problem.detail());
            }
            problem.into_response()
        }
    };
    guard.checked(response)
}

impl Guard {
    /// Whether a change is asked for under a condition that its handler would not look at (RFC
    /// 9110, section 13.1.1: such a request must not be done as if it had none).
    fn ignores_precondition(&self, headers: &HeaderMap) -> bool {
        let is_declared = |name: &HeaderName| {
            self.row.fields.iter().any(|field| field.name.eq_ignore_ascii_case(name.as_str()))
        };
        self.row.method != "GET"
            && self.row.is_described()
            && [header::IF_MATCH, header::IF_NONE_MATCH]
                .iter()
                .any(|name| headers.contains_key(name) && !is_declared(name))
    }

    /// In a build with debug assertions, ends the process for a problem that is not in the row: a
    /// panic would be answered with 500 like any other, and no test would notice.
    fn checked(&self, mut response: Response) -> Response {
        if let Some(Explained { kind, detail, .. }) = response.extensions().get::<Explained>()
            && cfg!(debug_assertions)
            && self.row.is_described()
            && !self.problems.iter().any(|known| std::ptr::eq(*known, *kind))
        {
            let row = self.row.id;
            let _ = writeln!(io::stderr(), "{row} answers {}, which is not in its row: {detail}", kind.slug);
            std::process::abort();
        }
        response.extensions_mut().insert(Answered(self.row.label()));
        response
    }
}
