//! How the API's messages and enumerations are declared: [`message!`] and [`enumeration!`].
//!
//! A message is a struct whose fields may all be left out, as in protobuf's JSON form: reading is strict, writing
//! leaves out what has its default, and checking visits every field, then the message's own rules.

/// Declares messages: `message! { /// doc  pub struct Name [rules] { /// doc  field: Type, … } }`, where `rules` is an
/// optional `fn(&Name, &mut Checker)`.
macro_rules! message {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident $([$rules:path])? {
            $( $(#[$field_meta:meta])* $field:ident: $type:ty, )*
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(default, skip_serializing_if = "crate::istio::message::is_default")]
                pub $field: $type,
            )*
        }

        impl crate::istio::check::Check for $name {
            #[allow(unused_variables)]
            fn check(&self, c: &mut crate::istio::check::Checker) {
                $( c.field(stringify!($field), |c| crate::istio::check::Check::check(&self.$field, c)); )*
                $( $rules(self, c); )?
            }
        }
    )+};
}

/// Declares enumerations of words; the first is the default.
macro_rules! enumeration {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident {
            $(#[$first_meta:meta])* $first:ident = $first_text:literal,
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )*
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $(#[$first_meta])* #[default] #[serde(rename = $first_text)] $first,
            $( $(#[$variant_meta])* #[serde(rename = $text)] $variant, )*
        }

        impl $name {
            /// The word.
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::$first => $first_text,
                    $( Self::$variant => $text, )*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl crate::istio::check::Check for $name {}
    )+};
}

pub(crate) use {enumeration, message};

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
