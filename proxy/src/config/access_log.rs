//! Access logs of listeners: `AccessLog`, checked, its format made ready.

use std::sync::Arc;

use hawser_api::proto::accesslog::access_log_filter::FilterSpecifier;
use hawser_api::proto::accesslog::grpc_status_filter::Status;
use hawser_api::proto::accesslog::{self as proto, access_log, comparison_filter::Op};
use hawser_api::proto::core;
use hawser_api::proto::core::data_source::Specifier;
use hawser_api::proto::core::substitution_format_string::Format as Source;
use hawser_api::proto::envoy::extensions::formatter::req_without_query::v3::ReqWithoutQuery;
use hawser_api::proto::file_access_log::{FileAccessLog, file_access_log::AccessLogFormat};

use super::proto::{At as _, Refused, refuse, unpack};
use crate::access_log::{AccessLog, Comparison, Filter, Flags, Format};

/// The most logs of one listener or filter.
const MOST: usize = 16;
/// How deep filters may be nested.
const DEEPEST: usize = 8;

/// Checks all logs of a listener or filter.
pub(super) fn access_logs(all: &[proto::AccessLog]) -> Result<Vec<Arc<AccessLog>>, Refused> {
    if all.len() > MOST {
        refuse!("access_log: {} of them, where at most {MOST} are supported", all.len());
    }
    let check = |(i, log)| access_log(log).map(Arc::new).at(format_args!("access_log[{i}]"));
    all.iter().enumerate().map(check).collect()
}

fn access_log(log: &proto::AccessLog) -> Result<AccessLog, Refused> {
    let filter = match &log.filter {
        None => Filter::All,
        Some(filter) => self::filter(filter, 0).at("filter")?,
    };
    let Some(access_log::ConfigType::TypedConfig(any)) = &log.config_type else { refuse!("typed_config is missing") };
    let Some(file) = unpack::<FileAccessLog>(any)? else { refuse!("{:?} is not supported", any.type_url) };
    if file.path.is_empty() {
        refuse!("path is missing");
    }
    let format = match &file.access_log_format {
        None => Format::envoy_text(),
        Some(AccessLogFormat::Format(text)) if text.is_empty() => Format::envoy_text(),
        Some(AccessLogFormat::Format(format)) => text(format, false).at("format")?,
        Some(AccessLogFormat::JsonFormat(format)) => json(format, false, false).at("json_format")?,
        Some(AccessLogFormat::TypedJsonFormat(format)) => json(format, true, false).at("typed_json_format")?,
        Some(AccessLogFormat::LogFormat(format)) => self::format(format).at("log_format")?,
    };
    Ok(AccessLog { filter, format: Arc::new(format), file: file.path.as_str().into() })
}

fn format(format: &core::SubstitutionFormatString) -> Result<Format, Refused> {
    for formatter in &format.formatters {
        let Some(any) = &formatter.typed_config else { refuse!("formatters: typed_config is missing") };
        if unpack::<ReqWithoutQuery>(any)?.is_none() {
            refuse!("formatters: {:?} is not supported", any.type_url);
        }
    }
    let omit_empty = format.omit_empty_values;
    let text = |format: &str, field: &str| match format {
        "" => Err(Refused(format!("{field} is empty"))),
        format => text(format, omit_empty).at(field),
    };
    match &format.format {
        None => refuse!("text_format_source or json_format is missing"),
        Some(Source::TextFormat(format)) => text(format, "text_format"),
        // Keys are always written in order, whatever `json_format_options` says.
        Some(Source::JsonFormat(format)) => json(format, true, omit_empty).at("json_format"),
        Some(Source::TextFormatSource(source)) => match &source.specifier {
            Some(Specifier::InlineString(format)) => text(format, "text_format_source"),
            Some(Specifier::InlineBytes(bytes)) => match std::str::from_utf8(bytes) {
                Ok(format) => text(format, "text_format_source"),
                Err(_) => refuse!("text_format_source is not UTF-8"),
            },
            _ => refuse!("text_format_source: only inline_string and inline_bytes are supported"),
        },
    }
}

fn text(format: &str, omit_empty: bool) -> Result<Format, Refused> {
    Format::text(format, omit_empty).map_err(|e| Refused(e.to_string()))
}

fn json(format: &prost_types::Struct, typed: bool, omit_empty: bool) -> Result<Format, Refused> {
    Format::json(format, typed, omit_empty).map_err(Refused)
}

fn filter(filter: &proto::AccessLogFilter, depth: usize) -> Result<Filter, Refused> {
    if depth >= DEEPEST {
        refuse!("filters are nested deeper than {DEEPEST}");
    }
    let all = |filters: &[proto::AccessLogFilter]| -> Result<Vec<Filter>, Refused> {
        if filters.len() > MOST {
            refuse!("{} filters, where at most {MOST} are supported", filters.len());
        }
        filters.iter().map(|f| self::filter(f, depth + 1)).collect()
    };
    Ok(match &filter.filter_specifier {
        None => refuse!("it is empty"),
        Some(FilterSpecifier::StatusCodeFilter(f)) => {
            let (how, value) = comparison(f.comparison.as_ref()).at("status_code_filter")?;
            Filter::Status(how, value)
        }
        Some(FilterSpecifier::DurationFilter(f)) => {
            let (how, value) = comparison(f.comparison.as_ref()).at("duration_filter")?;
            Filter::Duration(how, value)
        }
        Some(FilterSpecifier::AndFilter(f)) => Filter::And(all(&f.filters).at("and_filter")?),
        Some(FilterSpecifier::OrFilter(f)) => Filter::Or(all(&f.filters).at("or_filter")?),
        Some(FilterSpecifier::ResponseFlagFilter(f)) if f.flags.is_empty() => Filter::Flags(Flags::all()),
        Some(FilterSpecifier::ResponseFlagFilter(f)) => {
            let mut flags = Flags::NONE;
            for name in &f.flags {
                match Flags::named(name) {
                    Some(flag) => flags |= flag,
                    None => refuse!("response_flag_filter: {name:?} is no response flag"),
                }
            }
            Filter::Flags(flags)
        }
        Some(FilterSpecifier::GrpcStatusFilter(f)) => {
            let mut set = 0;
            for status in &f.statuses {
                match Status::try_from(*status) {
                    Ok(status) => set |= 1 << status as i32,
                    Err(_) => refuse!("grpc_status_filter: {status} is no status of gRPC"),
                }
            }
            Filter::Grpc(set, f.exclude)
        }
    })
}

fn comparison(filter: Option<&proto::ComparisonFilter>) -> Result<(Comparison, u32), Refused> {
    let Some(filter) = filter else { refuse!("comparison is missing") };
    let Some(value) = &filter.value else { refuse!("value is missing") };
    let how = match Op::try_from(filter.op) {
        Ok(Op::Eq) => Comparison::Equal,
        Ok(Op::Ge) => Comparison::AtLeast,
        Ok(Op::Le) => Comparison::AtMost,
        Ok(Op::Ne) => Comparison::NotEqual,
        Err(_) => refuse!("op {} is unknown", filter.op),
    };
    Ok((how, value.default_value))
}

#[cfg(test)]
mod tests {
    use hawser_api::any::pack;

    use super::*;

    fn file(format: Option<AccessLogFormat>) -> proto::AccessLog {
        let file = FileAccessLog { path: "/dev/stdout".into(), access_log_format: format };
        let config_type = Some(access_log::ConfigType::TypedConfig(pack(&file)));
        proto::AccessLog { name: "envoy.access_loggers.file".into(), filter: None, config_type }
    }

    fn filtered(specifier: FilterSpecifier) -> proto::AccessLog {
        proto::AccessLog { filter: Some(proto::AccessLogFilter { filter_specifier: Some(specifier) }), ..file(None) }
    }

    fn source(text: &str) -> core::SubstitutionFormatString {
        let specifier = Some(Specifier::InlineString(text.into()));
        core::SubstitutionFormatString {
            format: Some(Source::TextFormatSource(core::DataSource { specifier })),
            ..Default::default()
        }
    }

    fn why(log: proto::AccessLog) -> String {
        access_logs(&[log]).unwrap_err().to_string()
    }

    #[test]
    fn files_in_all_their_formats_are_taken() {
        let structure = prost_types::Struct::default;
        for format in [
            None,
            Some(AccessLogFormat::Format(String::new())),
            Some(AccessLogFormat::Format("%DURATION%\n".into())),
            Some(AccessLogFormat::JsonFormat(structure())),
            Some(AccessLogFormat::TypedJsonFormat(structure())),
            Some(AccessLogFormat::LogFormat(source("%REQ(X)%\n"))),
            Some(AccessLogFormat::LogFormat(core::SubstitutionFormatString {
                formatters: vec![core::TypedExtensionConfig {
                    name: "f".into(),
                    typed_config: Some(pack(&ReqWithoutQuery {})),
                }],
                ..source("%REQ_WITHOUT_QUERY(:PATH)%\n")
            })),
        ] {
            let logs = access_logs(&[file(format.clone())]).unwrap_or_else(|e| panic!("{format:?}: {e}"));
            assert_eq!((&*logs[0].file, &logs[0].filter), ("/dev/stdout", &Filter::All));
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_with_its_place() {
        let log = |format| file(Some(AccessLogFormat::LogFormat(format)));
        assert_eq!(
            why(log(source("%CEL(x)%"))),
            "access_log[0]: log_format: text_format_source: operator %CEL% is not supported"
        );
        let formatter =
            core::TypedExtensionConfig { name: "f".into(), typed_config: Some(pack(&core::Node::default())) };
        let other = core::SubstitutionFormatString { formatters: vec![formatter], ..source("x") };
        assert!(why(log(other)).contains("formatters: \"type.googleapis.com/envoy.config.core.v3.Node\" is not"));
        assert!(why(log(Default::default())).ends_with("text_format_source or json_format is missing"));
        assert!(why(log(source(""))).ends_with("text_format_source is empty"));
        assert_eq!(why(Default::default()), "access_log[0]: typed_config is missing");
        let flags = proto::ResponseFlagFilter { flags: vec!["NR".into(), "XX".into()] };
        assert_eq!(
            why(filtered(FilterSpecifier::ResponseFlagFilter(flags))),
            "access_log[0]: filter: response_flag_filter: \"XX\" is no response flag"
        );
        let status = proto::StatusCodeFilter { comparison: None };
        assert!(why(filtered(FilterSpecifier::StatusCodeFilter(status))).ends_with("comparison is missing"));
    }

    #[test]
    fn filters_are_read() {
        let value = Some(core::RuntimeUInt32 { default_value: 400, runtime_key: "x".into() });
        let comparison = proto::ComparisonFilter { op: Op::Ge as i32, value };
        let status =
            FilterSpecifier::StatusCodeFilter(proto::StatusCodeFilter { comparison: Some(comparison.clone()) });
        let duration = FilterSpecifier::DurationFilter(proto::DurationFilter { comparison: Some(comparison) });
        let flags =
            FilterSpecifier::ResponseFlagFilter(proto::ResponseFlagFilter { flags: vec!["NR".into(), "UF".into()] });
        let grpc = FilterSpecifier::GrpcStatusFilter(proto::GrpcStatusFilter { statuses: vec![0, 5], exclude: true });
        let filters = [status, duration, flags, grpc].map(|s| proto::AccessLogFilter { filter_specifier: Some(s) });
        let and = FilterSpecifier::AndFilter(proto::AndFilter { filters: filters.to_vec() });
        let logs = access_logs(&[filtered(and)]).unwrap();
        let expected = vec![
            Filter::Status(Comparison::AtLeast, 400),
            Filter::Duration(Comparison::AtLeast, 400),
            Filter::Flags(Flags::NR | Flags::UF),
            Filter::Grpc(0b100001, true),
        ];
        assert_eq!(logs[0].filter, Filter::And(expected));
        let any = FilterSpecifier::ResponseFlagFilter(proto::ResponseFlagFilter { flags: vec![] });
        assert_eq!(access_logs(&[filtered(any)]).unwrap()[0].filter, Filter::Flags(Flags::all()));
    }
}
