//! One statement with its parameters: takes a connection from a pool, runs, and returns the connection.
//!
//! Every call of the service is one of these, so no transaction of ours stays open between two round trips. Parameters
//! are encoded before a connection is taken. A call that is cut short closes its connection
//! ([`Checkout`](super::checkout::Checkout)).

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Encode, FromRow, Postgres, Type};

use super::StoreError;
use super::checkout::Pool;

/// A statement that has not run yet.
#[must_use = "a statement is asked by one of its last four methods"]
pub(super) struct Query<'a> {
    pool: &'a Pool,
    query: sqlx::query::Query<'static, Postgres, PgArguments>,
}

impl<'a> Query<'a> {
    pub(super) fn new(pool: &'a Pool, statement: &'static str) -> Self {
        Self { pool, query: sqlx::query(statement).persistent(pool.keeps_statements()) }
    }

    /// Binds the next parameter.
    pub(super) fn bind<'t, T: Encode<'t, Postgres> + Type<Postgres>>(self, value: T) -> Self {
        Self { query: self.query.bind(value), ..self }
    }

    /// Runs it and returns all rows.
    pub(super) async fn rows<T: ReadRow>(self) -> Result<Vec<T>, StoreError> {
        let mut checkout = self.pool.checkout().await?;
        let rows = self.query.try_map(|row| T::from_row(&row)).fetch_all(checkout.connection()).await?;
        checkout.done().await?;
        Ok(rows)
    }

    /// Runs it and returns the one row, or none.
    pub(super) async fn row_if_any<T: ReadRow>(self) -> Result<Option<T>, StoreError> {
        let mut checkout = self.pool.checkout().await?;
        let row = self.query.try_map(|row| T::from_row(&row)).fetch_optional(checkout.connection()).await?;
        checkout.done().await?;
        Ok(row)
    }

    /// Runs it and returns the one row. A missing row is a bug.
    pub(super) async fn row<T: ReadRow>(self) -> Result<T, StoreError> {
        self.row_if_any().await?.ok_or(StoreError::Bug(sqlx::Error::RowNotFound))
    }

    /// Runs it and returns the one column of the one row.
    pub(super) async fn value<T>(self) -> Result<T, StoreError>
    where
        (T,): ReadRow,
    {
        self.row().await.map(|(value,)| value)
    }

    /// Runs it and ignores any rows.
    pub(super) async fn run(self) -> Result<(), StoreError> {
        let mut checkout = self.pool.checkout().await?;
        self.query.execute(checkout.connection()).await?;
        checkout.done().await
    }
}

/// A type that a row decodes into: a tuple, or a struct with a field for each column.
pub(super) trait ReadRow: for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T: for<'r> FromRow<'r, PgRow> + Send + Unpin> ReadRow for T {}
