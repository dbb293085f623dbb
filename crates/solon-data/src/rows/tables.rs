//! Rows of tables with typed columns: Parquet.

use std::path::Path;

use solon_tables::parquet_rows;

use super::{FileFormat, Place, Row, Visit};
use crate::DataError;
use crate::input::Packing;

pub(super) fn parquet(
    path: &Path,
    packing: Option<Packing>,
    visit: Visit<'_>,
) -> Result<FileFormat, DataError> {
    let refuse = |message: String| DataError::Format { path: path.to_path_buf(), message };
    // Its index is at the end, so it cannot be read from its start.
    if packing.is_some() || !path.is_file() {
        return Err(refuse(
            "is Parquet inside another compression, or from a pipe\nhint: give it as a plain file; it is compressed inside"
                .into(),
        ));
    }
    let rows = parquet_rows(path).map_err(|error| refuse(error.reason))?;
    for (row, values) in (1..).zip(rows) {
        let place = Place::Row(row);
        let values = values.map_err(|error| refuse(error.reason))?;
        visit(Row::from_values(place, values).map_err(|fault| place.fault(path, fault))?)?;
    }
    Ok(FileFormat::Parquet)
}
