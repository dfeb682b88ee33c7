//! Tables as they were: `FROM windows VERSION AS OF 12` and `FROM windows TIMESTAMP AS OF '2026-03-01T00:00:00Z'`.
//!
//! The dialect of queries has no such clause. So it is taken out of the text, leaving blanks, so that the places of
//! mistakes stay right; then the table's name in the parsed statement is exchanged for that of the older version.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use deltalake::DeltaTable;
use futures::TryStreamExt;
use headroom_proto::EventTime;

use crate::maintenance::log_versions;
use crate::{Lake, LakeError, Table};

/// Between a table's name and its version, in the name under which the version is registered.
const MARK: char = '@';
const CLAUSE_TOKENS: usize = 5;

/// A question without its clauses about versions, and these.
#[derive(Debug)]
pub(crate) struct Travelling {
    sql: String,
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    place: Location,
    table: Table,
    at: At,
    /// The name of the version once it is registered.
    name: String,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Version(u64),
    Time(EventTime),
}

/// Is this the name of an older version of a table?
pub(crate) fn is_registered(name: &str) -> bool {
    name.split_once(MARK).is_some_and(|(table, _)| Table::ALL.iter().any(|known| known.name() == table))
}

impl Travelling {
    /// Takes the clauses out of a question. What is no SQL stays as it is, for the parser to say so.
    pub(crate) fn parse(sql: &str) -> Result<Self, LakeError> {
        let mut asked = Vec::new();
        let mut blanks = Vec::new();
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap_or_default();
        let tokens: Vec<&TokenWithSpan> =
            tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
        for window in tokens.windows(CLAUSE_TOKENS) {
            let [name, kind, r#as, of, value] = window else { continue };
            let Token::Word(word) = &name.token else { continue };
            let is_time = is_word(kind, "timestamp");
            if !((is_time || is_word(kind, "version")) && is_word(r#as, "as") && is_word(of, "of")) {
                continue;
            }
            let named = if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() };
            let table = Table::ALL.into_iter().find(|table| table.name() == named).ok_or_else(|| {
                let known = Table::ALL.map(Table::name).join(", ");
                LakeError::UnknownTable { name: named.clone(), known }
            })?;
            let at = if is_time { time(&value.token) } else { version(&value.token) }.map_err(LakeError::Sql)?;
            asked.push(Asked { place: name.span.start, table, at, name: String::new() });
            blanks.push((kind.span.start, value.span.end));
        }
        Ok(Self { sql: blanked(sql, &blanks), asked })
    }

    /// The question without the clauses.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// Puts the names of the versions into the statement.
    pub(crate) fn apply(&self, statement: &mut Statement) -> Result<(), LakeError> {
        if self.asked.is_empty() {
            return Ok(());
        }
        let mut renaming = Renaming { asked: &self.asked, done: 0 };
        match statement {
            Statement::Statement(statement) => renaming.rename(statement.as_mut()),
            Statement::Explain(explain) => return self.apply(&mut explain.statement),
            Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => {}
        }
        if renaming.done == self.asked.len() {
            return Ok(());
        }
        Err(LakeError::Sql(
            "VERSION AS OF and TIMESTAMP AS OF belong behind the name of a table, in FROM or JOIN".to_owned(),
        ))
    }
}

struct Renaming<'a> {
    asked: &'a [Asked],
    done: usize,
}

impl Renaming<'_> {
    fn rename(&mut self, statement: &mut impl VisitMut) {
        // It never breaks off.
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = statement.visit(self);
    }
}

impl VisitorMut for Renaming<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, alias, .. } = factor else { return ControlFlow::Continue(()) };
        let Some(ObjectNamePart::Identifier(last)) = name.0.last() else { return ControlFlow::Continue(()) };
        let Some(asked) = self.asked.iter().find(|asked| asked.place == last.span.start) else {
            return ControlFlow::Continue(());
        };
        let own = Ident::with_span(last.span, asked.table.name());
        alias.get_or_insert(TableAlias { explicit: false, name: own, columns: Vec::new(), at: None });
        *name = ObjectName::from(vec![Ident::with_quote('"', asked.name.clone())]);
        self.done += 1;
        ControlFlow::Continue(())
    }
}

impl Lake {
    /// Makes the versions that a question asks for known by name.
    pub(crate) async fn register_versions(
        &self,
        context: &SessionContext,
        question: &mut Travelling,
    ) -> Result<(), LakeError> {
        let mut registered = BTreeSet::new();
        for asked in &mut question.asked {
            let (version, then) = self.as_of(asked.table, asked.at).await?;
            asked.name = format!("{}{MARK}{version}", asked.table);
            if !registered.insert(asked.name.clone()) {
                continue;
            }
            let failed = |error| LakeError::Query(Box::new(error));
            let provider = self.provider(asked.table, Some(&then), context).await?;
            context.register_table(TableReference::bare(asked.name.clone()), provider).map_err(failed)?;
        }
        Ok(())
    }

    async fn as_of(&self, table: Table, at: At) -> Result<(u64, DeltaTable), LakeError> {
        let asked = match at {
            At::Version(version) => format!("version {version}"),
            At::Time(time) => format!("version of {time}"),
        };
        let nothing = |range: String| LakeError::Version { table, asked: asked.clone(), range };
        let Some(current) = self.loaded(table).await? else {
            return Err(nothing("nothing has been written to it".to_owned()));
        };
        let newest = current.version().unwrap_or_default();
        let log = log_versions(table, &current).await?;
        let oldest = log.oldest().unwrap_or(newest);
        let version = match at {
            At::Version(version) => (oldest..=newest).contains(&version).then_some(version),
            At::Time(time) => self.newest_before(table, time, oldest).await?,
        };
        if let Some(version) = version {
            let then = self.at_version(table, version).await?;
            if is_whole(table, &then).await? {
                return Ok((version, then));
            }
        }
        let oldest = self.oldest_whole(table, oldest, newest).await?;
        Err(nothing(format!(
            "versions {oldest} to {newest} can be read; `headroom lake history {table}` has their times"
        )))
    }

    async fn at_version(&self, table: Table, version: u64) -> Result<DeltaTable, LakeError> {
        let mut then = self.unloaded(table)?;
        then.load_version(version).await.map_err(LakeError::delta(table, "reading an older version of"))?;
        Ok(then)
    }

    /// The newest version that was committed at or before a time.
    async fn newest_before(&self, table: Table, time: EventTime, oldest: u64) -> Result<Option<u64>, LakeError> {
        let entries = self.history(table, usize::MAX).await?;
        let found = entries.iter().find(|entry| entry.at.is_some_and(|at| at <= time));
        Ok(found.map(|entry| entry.version).filter(|version| *version >= oldest))
    }

    /// The version from which on the data files are there.
    async fn oldest_whole(&self, table: Table, oldest: u64, newest: u64) -> Result<u64, LakeError> {
        let (mut low, mut high) = (oldest, newest);
        while low < high {
            let middle = low.midpoint(high);
            let then = self.at_version(table, middle).await?;
            if is_whole(table, &then).await? {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }
}

/// Has a vacuum left all of a version's data files?
async fn is_whole(table: Table, then: &DeltaTable) -> Result<bool, LakeError> {
    let state = then.snapshot().map_err(LakeError::delta(table, "reading the files of"))?;
    let listed = then.log_store().object_store(None).list(None).map_ok(|object| object.location);
    let listed: Result<BTreeSet<_>, _> = listed.try_collect().await;
    let there = listed.map_err(|error| LakeError::delta(table, "listing the files of")(error.into()))?;
    Ok(state.log_data().iter().all(|file| there.contains(&file.object_store_path())))
}

fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    matches!(&token.token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

fn version(token: &Token) -> Result<At, String> {
    let text = if let Token::Number(text, _) | Token::SingleQuotedString(text) = token {
        text.clone()
    } else {
        token.to_string()
    };
    text.parse().map(At::Version).map_err(|_| format!("VERSION AS OF {text}: write a whole number, such as 12"))
}

fn time(token: &Token) -> Result<At, String> {
    let Token::SingleQuotedString(text) = token else {
        return Err(format!("TIMESTAMP AS OF {token}: write a time in quotes, such as '2026-03-01T00:00:00Z'"));
    };
    EventTime::parse(text).map(At::Time).map_err(|error| format!("TIMESTAMP AS OF: {error}"))
}

/// The text with blanks between these places; lines and columns count from 1, columns in characters.
fn blanked(sql: &str, blanks: &[(Location, Location)]) -> String {
    let mut place = Location::new(1, 1);
    let mut text = String::with_capacity(sql.len());
    for character in sql.chars() {
        let is_blank = blanks.iter().any(|(from, to)| *from <= place && place < *to);
        text.push(if is_blank && !character.is_whitespace() { ' ' } else { character });
        place = match character {
            '\n' => Location::new(place.line + 1, 1),
            _ => Location::new(place.line, place.column + 1),
        };
    }
    text
}

#[cfg(test)]
mod tests;
