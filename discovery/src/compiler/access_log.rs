//! Access logs of listeners and of what they lead to.

use hawser_api::proto::accesslog::access_log_filter::FilterSpecifier;
use hawser_api::proto::accesslog::{AccessLog, AccessLogFilter, ResponseFlagFilter, access_log};
use hawser_api::proto::core::substitution_format_string::Format;
use hawser_api::proto::core::{
    DataSource, JsonFormatOptions, SubstitutionFormatString, TypedExtensionConfig, data_source::Specifier,
};
use hawser_api::proto::envoy::extensions::formatter::req_without_query::v3::ReqWithoutQuery;
use hawser_api::proto::file_access_log::{FileAccessLog, file_access_log::AccessLogFormat};

use super::context::Context;
use super::proto::{any, name};
use crate::registry::{AccessLogging, LogFormat};

/// Of requests and connections.
pub(super) fn of_connections(context: &Context<'_>) -> Vec<AccessLog> {
    context.settings().access_logging.iter().map(|logging| log(logging, None)).collect()
}

/// Of connections that no filter chain takes.
pub(super) fn of_listener(context: &Context<'_>) -> Vec<AccessLog> {
    let wanted = context.settings().access_logging.iter().filter(|logging| logging.of_listeners);
    let not_taken = || {
        let flags = ResponseFlagFilter { flags: vec!["NR".to_owned()] };
        AccessLogFilter { filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(flags)) }
    };
    wanted.map(|logging| log(logging, Some(not_taken()))).collect()
}

fn log(logging: &AccessLogging, filter: Option<AccessLogFilter>) -> AccessLog {
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
    let file =
        FileAccessLog { path: logging.file.clone(), access_log_format: Some(AccessLogFormat::LogFormat(format)) };
    AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        filter,
        config_type: Some(access_log::ConfigType::TypedConfig(any(name::FILE_ACCESS_LOG, &file))),
    }
}
