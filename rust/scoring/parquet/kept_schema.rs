//! The Arrow schema that writers keep in a footer: a message of Arrow IPC, in base64.

use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_ipc::{convert, root_as_message};
use arrow_schema::Schema;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parquet::errors::{ParquetError, Result};

/// The key of the footer that has it.
pub(super) const KEY: &str = "ARROW:schema";

/// What a message begins with, before its length; older writers left both out.
const MARK: [u8; 4] = [0xff; 4];

/// The schema of a value of the footer.
pub(super) fn decode(value: &str) -> Result<Schema> {
    let broken = |what: String| ParquetError::General(format!("{KEY} of its footer: {what}"));
    let bytes = BASE64_STANDARD
        .decode(value)
        .map_err(|error| broken(error.to_string()))?;
    let message = match bytes.strip_prefix(&MARK) {
        Some(rest) => rest.get(4..).unwrap_or_default(),
        None => &bytes,
    };
    root_as_message(message)
        .map_err(|error| broken(error.to_string()))?
        .header_as_schema()
        .map(convert::fb_to_schema)
        .ok_or_else(|| broken("a message without a schema".to_owned()))
}

/// The value of the footer for a schema.
pub(super) fn encode(schema: &Schema) -> String {
    let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        schema,
        &mut DictionaryTracker::new(true),
        &IpcWriteOptions::default(),
    );
    let message = encoded.ipc_message;
    let length = u32::try_from(message.len()).expect("a schema of less than 4 GiB");
    BASE64_STANDARD.encode([&MARK[..], &length.to_le_bytes(), &message].concat())
}
