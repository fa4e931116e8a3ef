//! Access logs of listeners and of what they lead to.
//!
//! In: the mesh's settings. Out: loggers. Invariant: an Envoy never opens its own output by name, which fails where that is a
//! socket, as under systemd, and would refuse every listener.

use hawser_api::proto::accesslog::access_log_filter::FilterSpecifier;
use hawser_api::proto::accesslog::{AccessLog, AccessLogFilter, ResponseFlagFilter, access_log};
use hawser_api::proto::core::substitution_format_string::Format;
use hawser_api::proto::core::{
    DataSource, JsonFormatOptions, SubstitutionFormatString, TypedExtensionConfig, data_source::Specifier,
};
use hawser_api::proto::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};
use hawser_api::proto::envoy::extensions::formatter::req_without_query::v3::ReqWithoutQuery;
use hawser_api::proto::file_access_log::{FileAccessLog, file_access_log::AccessLogFormat};

use super::context::Context;
use super::proto::{any, name};
use crate::registry::{AccessLogging, LogFormat};
use crate::view::Class;

/// Of requests and connections.
pub(super) fn of_connections(context: &Context<'_>) -> Vec<AccessLog> {
    context.settings().access_logging.iter().map(|logging| log(context, logging, None)).collect()
}

/// Of connections that no filter chain takes.
pub(super) fn of_listener(context: &Context<'_>) -> Vec<AccessLog> {
    let wanted = context.settings().access_logging.iter().filter(|logging| logging.of_listeners);
    let not_taken = || {
        let flags = ResponseFlagFilter { flags: vec!["NR".to_owned()] };
        AccessLogFilter { filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(flags)) }
    };
    wanted.map(|logging| log(context, logging, Some(not_taken()))).collect()
}

fn log(context: &Context<'_>, logging: &AccessLogging, filter: Option<AccessLogFilter>) -> AccessLog {
    let (format, json_format_options) = match &logging.format {
        LogFormat::Text(text) => {
            let specifier = Some(Specifier::InlineString(text.clone()));
            (Format::TextFormatSource(DataSource { specifier }), None)
        }
        LogFormat::Json(json) => (Format::JsonFormat(json.clone()), Some(JsonFormatOptions { sort_properties: false })),
    };
    let without_query = || TypedExtensionConfig {
        name: "envoy.formatter.req_without_query".to_owned(),
        typed_config: Some(any(name::REQ_WITHOUT_QUERY, &ReqWithoutQuery {})),
    };
    let format = SubstitutionFormatString {
        format: Some(format),
        formatters: logging.format.is_without_query().then(without_query).into_iter().collect(),
        json_format_options,
        ..SubstitutionFormatString::default()
    };
    let (extension, config) = match (context.view.class, logging.file.as_str()) {
        (Class::Envoy, "/dev/stdout") => {
            let access_log_format = Some(stdout_access_log::AccessLogFormat::LogFormat(format));
            ("envoy.access_loggers.stdout", any(name::STDOUT_ACCESS_LOG, &StdoutAccessLog { access_log_format }))
        }
        (Class::Envoy, "/dev/stderr") => {
            let access_log_format = Some(stderr_access_log::AccessLogFormat::LogFormat(format));
            ("envoy.access_loggers.stderr", any(name::STDERR_ACCESS_LOG, &StderrAccessLog { access_log_format }))
        }
        (_, path) => {
            let access_log_format = Some(AccessLogFormat::LogFormat(format));
            let file = FileAccessLog { path: path.to_owned(), access_log_format };
            ("envoy.access_loggers.file", any(name::FILE_ACCESS_LOG, &file))
        }
    };
    AccessLog { name: extension.to_owned(), filter, config_type: Some(access_log::ConfigType::TypedConfig(config)) }
}
