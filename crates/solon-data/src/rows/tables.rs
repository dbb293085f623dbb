//! Rows of tables with typed columns: Parquet and Arrow.

use std::io::BufRead;
use std::path::Path;

use solon_tables::{ArrowRows, ParquetRows, TableError};

use super::{FileFormat, Place, Row, Visit};
use crate::DataError;
use crate::input::Packing;

pub(super) fn parquet(
    path: &Path,
    packing: Option<Packing>,
    visit: Visit<'_>,
) -> Result<FileFormat, DataError> {
    // Its index is at the end, so it cannot be read from its start.
    if packing.is_some() || !path.is_file() {
        let message = "is Parquet inside another compression, or from a pipe\nhint: give it as a plain file; it is compressed inside";
        return Err(DataError::Format { path: path.to_path_buf(), message: message.into() });
    }
    let rows = ParquetRows::open(path).map_err(refused)?;
    for (row, values) in (1..).zip(rows) {
        let place = Place::Row(row);
        let values = values.map_err(refused)?;
        visit(Row::from_values(place, values).map_err(|fault| place.fault(path, fault))?)?;
    }
    Ok(FileFormat::Parquet)
}

pub(super) fn arrow(
    path: &Path,
    reader: Box<dyn BufRead>,
    visit: Visit<'_>,
) -> Result<FileFormat, DataError> {
    for (row, values) in (1..).zip(ArrowRows::new(path, reader)) {
        let place = Place::Row(row);
        let values = values.map_err(refused)?;
        visit(Row::from_typed(place, values).map_err(|fault| place.fault(path, fault))?)?;
    }
    Ok(FileFormat::Arrow)
}

fn refused(error: TableError) -> DataError {
    DataError::Format { path: error.path, message: error.reason }
}
