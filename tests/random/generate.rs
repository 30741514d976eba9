//! Random queries: relations upon relations, up to three deep.
//!
//! Expressions are made so that they cannot fail on the values of `data`: whole numbers stay small,
//! divisors are constants. Doubles stay in steps of a quarter as long as they may be summed.

use rand::Rng;
use rand::rngs::StdRng;

use crate::data::{Kind, Table};

/// Something to select from.
#[derive(Clone)]
struct Relation {
    /// As it stands behind `FROM`.
    from: String,
    columns: Vec<(String, Kind)>,
}

/// A random query over `tables`.
pub(crate) fn query(random: &mut StdRng, tables: &[Table]) -> String {
    let mut generator = Generator { random, names: 0 };
    let mut relation = generator.table(tables);
    for _ in 0..generator.random.random_range(1..=3) {
        relation = generator.step(&relation, tables);
    }
    let inner = relation
        .from
        .strip_prefix('(')
        .and_then(|text| text.rsplit_once(") AS "))
        .map(|(text, _)| text);
    inner.expect("a step gives a sub-query").to_owned()
}

struct Generator<'a> {
    random: &'a mut StdRng,
    names: usize,
}

impl Generator<'_> {
    fn table(&mut self, tables: &[Table]) -> Relation {
        let table = &tables[self.random.random_range(0..tables.len())];
        Relation {
            from: table.name.clone(),
            columns: table.columns.clone(),
        }
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("c{}", self.names)
    }

    fn chance(&mut self, chance: f64) -> bool {
        self.random.random_bool(chance)
    }

    fn one_of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.random.random_range(0..texts.len())]
    }

    fn relation(&mut self, select: &str, columns: Vec<(String, Kind)>) -> Relation {
        self.names += 1;
        Relation {
            from: format!("({select}) AS q{}", self.names),
            columns,
        }
    }

    /// Another relation on top.
    fn step(&mut self, relation: &Relation, tables: &[Table]) -> Relation {
        match self.random.random_range(0..20) {
            0..=1 => self.project(relation),
            2..=6 => self.aggregate(relation),
            7 => self.distinct(relation),
            8 => self.first(relation),
            9..=10 => self.ranked(relation),
            11 => self.limited(relation),
            12 => self.over(relation),
            13..=14 => self.union(relation, tables),
            15..=17 => self.join(relation, tables),
            18 => self.nearest(relation, tables),
            _ => self.sub_query(relation, tables),
        }
    }

    fn filter(&mut self, columns: &[(String, Kind)], chance: f64) -> String {
        if self.chance(chance) {
            format!(" WHERE {}", self.expression(columns, Kind::Bool, 2))
        } else {
            String::new()
        }
    }

    fn project(&mut self, relation: &Relation) -> Relation {
        let (mut select, mut columns) = (vec![], vec![]);
        for _ in 0..self.random.random_range(1..5) {
            let (text, kind) = self.any(&relation.columns);
            let name = self.name();
            select.push(format!("{text} AS {name}"));
            columns.push((name, kind));
        }
        // The event time stays, mostly, so that what comes on top can use it.
        for (column, _) in event_times(&relation.columns) {
            if self.chance(0.8) {
                let name = self.name();
                select.push(format!("{column} AS {name}"));
                columns.push((name, Kind::EventTime));
            }
        }
        let filter = self.filter(&relation.columns, 0.6);
        let text = format!(
            "SELECT {} FROM {}{filter}",
            select.join(", "),
            relation.from
        );
        self.relation(&text, columns)
    }

    fn distinct(&mut self, relation: &Relation) -> Relation {
        let (mut select, mut columns) = (vec![], vec![]);
        for _ in 0..self.random.random_range(1..3) {
            let (column, kind) = self.column(&relation.columns);
            let name = self.name();
            select.push(format!("{column} AS {name}"));
            columns.push((name, kind));
        }
        let filter = self.filter(&relation.columns, 0.3);
        let text = format!(
            "SELECT DISTINCT {} FROM {}{filter}",
            select.join(", "),
            relation.from
        );
        self.relation(&text, columns)
    }

    /// The first row of each key: of what arrives only the keys are the same in any cut.
    fn first(&mut self, relation: &Relation) -> Relation {
        let (key, kind) = self.column(&relation.columns);
        let (first, second) = (self.name(), self.name());
        let mut columns = vec![(first.clone(), kind)];
        let mut select = format!("{key} AS {first}");
        let mut order = String::new();
        if self.chance(0.7) {
            let (by, kind) = self.column(&relation.columns);
            select.push_str(&format!(", {by} AS {second}"));
            order = format!(" ORDER BY {key}, {by}{}", self.direction());
            columns.push((second, kind));
        }
        let filter = self.filter(&relation.columns, 0.3);
        let text = format!(
            "SELECT DISTINCT ON ({key}) {select} FROM {}{filter}{order}",
            relation.from
        );
        self.relation(&text, columns)
    }

    /// Rows of some ranks.
    fn ranked(&mut self, relation: &Relation) -> Relation {
        let function = self.one_of(&["ROW_NUMBER", "RANK", "DENSE_RANK"]);
        let (key, _) = self.column(&relation.columns);
        let (by, _) = self.any(&relation.columns);
        let partition = if self.chance(0.7) {
            format!("PARTITION BY {key} ")
        } else {
            String::new()
        };
        let way = self.direction();
        let rank = self.name();
        let ranks = self.one_of(&["= 1", "<= 3", "< 3", "BETWEEN 2 AND 4", "= 2"]);
        let names: Vec<&str> = relation
            .columns
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let mut columns = relation.columns.clone();
        let mut shown = names.join(", ");
        if self.chance(0.5) {
            shown.push_str(&format!(", {rank}"));
            columns.push((rank.clone(), Kind::Int));
        }
        let text = format!(
            "SELECT {shown} FROM (SELECT {}, {function}() OVER ({partition}ORDER BY {by}{way}) AS {rank} FROM {}) WHERE {rank} {ranks}",
            names.join(", "),
            relation.from
        );
        self.relation(&text, columns)
    }

    /// Results of window functions.
    fn over(&mut self, relation: &Relation) -> Relation {
        let partition = if self.chance(0.7) {
            format!("PARTITION BY {} ", self.column(&relation.columns).0)
        } else {
            String::new()
        };
        let (by, _) = self.column(&relation.columns);
        let over = format!("OVER ({partition}ORDER BY {by}{}", self.direction());
        let frame = self.one_of(&["", "", " ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING"]);
        let names: Vec<&str> = relation
            .columns
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let mut select = names.join(", ");
        let mut columns = relation.columns.clone();
        for _ in 0..self.random.random_range(1..3) {
            let (value, kind) = self.column(&relation.columns);
            let kind = if kind == Kind::EventTime {
                Kind::Time
            } else {
                kind
            };
            let (call, kind) = match self.random.random_range(0..6) {
                0 => (format!("count(*) {over}{frame})"), Kind::Long),
                1 => (
                    format!(
                        "sum({}) {over}{frame})",
                        self.expression(&relation.columns, Kind::Int, 1)
                    ),
                    Kind::Long,
                ),
                2 => (format!("max({value}) {over})"), kind),
                3 => (format!("lag({value}) {over})"), kind),
                4 => (format!("lead({value}, 2) {over})"), kind),
                _ => (format!("row_number() {over})"), Kind::Int),
            };
            let name = self.name();
            select.push_str(&format!(", {call} AS {name}"));
            columns.push((name, kind));
        }
        let text = format!("SELECT {select} FROM {}", relation.from);
        self.relation(&text, columns)
    }

    /// The first rows of an order.
    fn limited(&mut self, relation: &Relation) -> Relation {
        let names: Vec<&str> = relation
            .columns
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let (by, _) = self.column(&relation.columns);
        let text = format!(
            "SELECT {} FROM {} ORDER BY {by}{} LIMIT {}{}",
            names.join(", "),
            relation.from,
            self.direction(),
            self.random.random_range(1..9),
            self.one_of(&["", " OFFSET 2"]),
        );
        self.relation(&text, relation.columns.clone())
    }

    fn direction(&mut self) -> &'static str {
        self.one_of(&["", " DESC", " DESC NULLS FIRST", " NULLS LAST"])
    }

    fn union(&mut self, relation: &Relation, tables: &[Table]) -> Relation {
        let other = if self.chance(0.5) {
            self.table(tables)
        } else {
            let base = self.table(tables);
            self.aggregate(&base)
        };
        let kinds = [Kind::Int, Kind::Double, Kind::Text, Kind::Bool, Kind::Date];
        let (mut left, mut right, mut columns) = (vec![], vec![], vec![]);
        for _ in 0..self.random.random_range(1..4) {
            let kind = kinds[self.random.random_range(0..kinds.len())];
            let name = self.name();
            left.push(format!(
                "{} AS {name}",
                self.expression(&relation.columns, kind, 1)
            ));
            right.push(format!(
                "{} AS {name}",
                self.expression(&other.columns, kind, 1)
            ));
            columns.push((name, kind));
        }
        if let (Some((mine, _)), Some((theirs, _))) = (
            event_times(&relation.columns).next(),
            event_times(&other.columns).next(),
        ) && self.chance(0.7)
        {
            let name = self.name();
            left.push(format!("{mine} AS {name}"));
            right.push(format!("{theirs} AS {name}"));
            columns.push((name, Kind::EventTime));
        }
        let all = if self.chance(0.8) { " ALL" } else { "" };
        let filter = self.filter(&other.columns, 0.4);
        let text = format!(
            "SELECT {} FROM {} UNION{all} SELECT {} FROM {}{filter}",
            left.join(", "),
            relation.from,
            right.join(", "),
            other.from
        );
        self.relation(&text, columns)
    }

    /// Some columns under names of their own, the event time among them.
    fn renamed(&mut self, relation: &Relation) -> Relation {
        let (mut select, mut columns) = (vec![], vec![]);
        let mut all = relation.columns.clone();
        while all.len() > 4 {
            let one = self.random.random_range(0..all.len());
            if all[one].1 != Kind::EventTime || self.chance(0.2) {
                all.remove(one);
            }
        }
        for (column, kind) in all {
            let name = self.name();
            select.push(format!("{column} AS {name}"));
            columns.push((name, kind));
        }
        let text = format!("SELECT {} FROM {}", select.join(", "), relation.from);
        self.relation(&text, columns)
    }

    /// What can stand beside a relation in a join.
    fn other(&mut self, tables: &[Table]) -> Relation {
        let table = self.table(tables);
        let other = if self.chance(0.3) {
            self.aggregate(&table)
        } else {
            table
        };
        self.renamed(&other)
    }

    /// That two rows belong together.
    fn condition(&mut self, left: &Relation, right: &Relation) -> String {
        let kinds = [Kind::Int, Kind::Text, Kind::Date, Kind::Double];
        let mut all = vec![];
        let least = usize::from(!self.chance(0.1));
        for _ in 0..self.random.random_range(least..=2) {
            let kind = kinds[self.random.random_range(0..kinds.len())];
            let depth = usize::from(self.chance(0.3));
            let equal = self.one_of(&["=", "=", "=", "=", "<=>"]);
            let one = self.expression(&left.columns, kind, depth);
            let other = self.expression(&right.columns, kind, depth);
            all.push(format!("{one} {equal} {other}"));
        }
        if let (Some((mine, _)), Some((theirs, _))) = (
            event_times(&left.columns).next(),
            event_times(&right.columns).next(),
        ) && self.chance(0.6)
        {
            let (before, after) = (
                self.random.random_range(-3..20),
                self.random.random_range(0..30),
            );
            all.push(match self.random.random_range(0..3) {
                0 => format!(
                    "{theirs} BETWEEN {mine} - INTERVAL '{before}' MINUTE AND {mine} + INTERVAL '{after}' MINUTE"
                ),
                1 => format!(
                    "{mine} < {theirs} + INTERVAL '{after}' MINUTE AND {theirs} < {mine} + INTERVAL '{before}' MINUTE"
                ),
                _ => format!("{theirs} >= {mine} - INTERVAL '{after}' SECOND"),
            });
        }
        if self.chance(0.4) {
            let both = [&left.columns[..], &right.columns[..]].concat();
            all.push(self.expression(&both, Kind::Bool, 1));
        }
        if all.is_empty() {
            all.push("true".into());
        }
        all.join(" AND ")
    }

    fn join(&mut self, relation: &Relation, tables: &[Table]) -> Relation {
        let (left, right) = (self.renamed(relation), self.other(tables));
        let kind = self.one_of(&[
            "JOIN",
            "JOIN",
            "LEFT JOIN",
            "RIGHT JOIN",
            "FULL JOIN",
            "LEFT SEMI JOIN",
            "LEFT ANTI JOIN",
        ]);
        let on = self.condition(&left, &right);
        let joined = Relation {
            from: format!("{} {kind} {} ON {on}", left.from, right.from),
            columns: if kind.contains("SEMI") || kind.contains("ANTI") {
                left.columns
            } else {
                [left.columns, right.columns].concat()
            },
        };
        self.project(&joined)
    }

    /// Each row with the one nearest to it.
    fn nearest(&mut self, relation: &Relation, tables: &[Table]) -> Relation {
        let (left, right) = (self.renamed(relation), self.other(tables));
        let kind = if self.chance(0.7) {
            Kind::EventTime
        } else {
            [Kind::Int, Kind::Long, Kind::Date][self.random.random_range(0..3)]
        };
        let time = |columns: &[(String, Kind)]| {
            let found = columns.iter().find(|(_, of)| *of == kind);
            found.map(|(text, _)| text.clone())
        };
        let (Some(mine), Some(theirs)) = (time(&left.columns), time(&right.columns)) else {
            return self.join(relation, tables);
        };
        let op = self.one_of(&[">=", ">", "<=", "<"]);
        let join = self.one_of(&["ASOF JOIN", "LEFT ASOF JOIN"]);
        let of = [Kind::Int, Kind::Text][self.random.random_range(0..2)];
        let column = |columns: &[(String, Kind)]| {
            let found = columns.iter().find(|(_, kind)| *kind == of);
            found.map(|(text, _)| text.clone())
        };
        let on = match (column(&left.columns), column(&right.columns)) {
            (Some(one), Some(other)) if self.chance(0.8) => format!(" ON {one} = {other}"),
            _ => String::new(),
        };
        let joined = Relation {
            from: format!(
                "{} {join} {} MATCH_CONDITION ({mine} {op} {theirs}){on}",
                left.from, right.from
            ),
            columns: [left.columns, right.columns].concat(),
        };
        self.project(&joined)
    }

    fn sub_query(&mut self, relation: &Relation, tables: &[Table]) -> Relation {
        let (left, right) = (self.renamed(relation), self.other(tables));
        let not = self.one_of(&["", "NOT "]);
        let kind = [Kind::Int, Kind::Text][self.random.random_range(0..2)];
        let filter = self.filter(&right.columns, 0.4);
        let mine = self.expression(&left.columns, kind, 1);
        let theirs = self.expression(&right.columns, kind, 1);
        let condition = match self.random.random_range(0..4) {
            0 => format!(
                "{mine} {not}IN (SELECT {theirs} FROM {}{filter})",
                right.from
            ),
            1 => format!(
                "{not}EXISTS (SELECT 1 FROM {} WHERE {})",
                right.from,
                self.condition(&left, &right)
            ),
            2 => format!(
                "({} OR EXISTS (SELECT 1 FROM {} WHERE {mine} = {theirs}))",
                self.expression(&left.columns, Kind::Bool, 1),
                right.from
            ),
            _ => format!(
                "{mine} >= (SELECT max({theirs}) FROM {}{filter})",
                right.from
            ),
        };
        let columns: Vec<String> = left.columns.iter().map(|(name, _)| name.clone()).collect();
        let text = format!(
            "SELECT {} FROM {} WHERE {condition}",
            columns.join(", "),
            left.from
        );
        self.relation(&text, left.columns)
    }

    fn aggregate(&mut self, relation: &Relation) -> Relation {
        let (mut select, mut keys, mut columns) = (vec![], vec![], vec![]);
        let event = event_times(&relation.columns).next().cloned();
        if let Some((time, _)) = &event
            && self.chance(0.75)
        {
            self.time_key(
                time,
                &relation.columns,
                &mut select,
                &mut keys,
                &mut columns,
            );
        }
        for _ in 0..self.random.random_range(0..3) {
            let (text, kind) = if self.chance(0.6) {
                self.column(&relation.columns)
            } else {
                self.any(&relation.columns)
            };
            // A literal would be read as the position of a column.
            if !text.contains(|c: char| c.is_ascii_lowercase()) || keys.contains(&text) {
                continue;
            }
            let name = self.name();
            select.push(format!("{text} AS {name}"));
            keys.push(text);
            columns.push((name, kind));
        }
        let mut calls = vec![];
        for _ in 0..self.random.random_range(1..4) {
            let (call, kind) = self.call(&relation.columns);
            let name = self.name();
            select.push(format!("{call} AS {name}"));
            calls.push((call, kind));
            columns.push((name, kind));
        }
        let filter = self.filter(&relation.columns, 0.3);
        let group = if keys.is_empty() {
            String::new()
        } else {
            format!(" GROUP BY {}", keys.join(", "))
        };
        let having = if !keys.is_empty() && self.chance(0.25) {
            let condition = self.expression(&calls, Kind::Bool, 1);
            format!(" HAVING {condition}")
        } else {
            String::new()
        };
        let text = format!(
            "SELECT {} FROM {}{filter}{group}{having}",
            select.join(", "),
            relation.from
        );
        self.relation(&text, columns)
    }

    /// A window or a session of the event time, or its day, hour or minute.
    fn time_key(
        &mut self,
        time: &str,
        of: &[(String, Kind)],
        select: &mut Vec<String>,
        keys: &mut Vec<String>,
        columns: &mut Vec<(String, Kind)>,
    ) {
        if self.chance(0.2) {
            let unit = self.one_of(&["minute", "hour", "day"]);
            let (key, name) = (format!("date_trunc('{unit}', {time})"), self.name());
            select.push(format!("{key} AS {name}"));
            columns.push((name, Kind::EventTime));
            keys.push(key);
            return;
        }
        let (window, key) = match self.random.random_range(0..7) {
            0 => (
                "window",
                format!("window({time}, '20 minutes', '10 minutes')"),
            ),
            1 => (
                "window",
                format!("window({time}, '15 minutes', '5 minutes', '2 minutes')"),
            ),
            2 => ("window", format!("window({time}, '1 hour')")),
            3 => ("window", format!("window({time}, '5 minutes')")),
            4 => {
                // Null, zero and negative gaps leave their rows out.
                let long = self.expression(of, Kind::Bool, 1);
                let short = self.one_of(&["'90 seconds'", "'0 seconds'", "CAST(NULL AS STRING)"]);
                let gap = format!("CASE WHEN {long} THEN '15 minutes' ELSE {short} END");
                ("session_window", format!("session_window({time}, {gap})"))
            }
            _ => {
                let gap = self.one_of(&["1 minute", "7 minutes", "40 minutes"]);
                ("session_window", format!("session_window({time}, '{gap}')"))
            }
        };
        keys.push(key);
        for edge in ["start", "end"] {
            let name = self.name();
            select.push(format!("{window}.{edge} AS {name}"));
            columns.push((name, Kind::Time));
        }
        let at = self.name();
        select.push(format!("window_time({window}) AS {at}"));
        columns.push((at, Kind::EventTime));
    }

    fn call(&mut self, columns: &[(String, Kind)]) -> (String, Kind) {
        let filter = if self.chance(0.2) {
            format!(
                " FILTER (WHERE {})",
                self.expression(columns, Kind::Bool, 1)
            )
        } else {
            String::new()
        };
        let (call, kind) = match self.random.random_range(0..9) {
            0 => ("count(*)".into(), Kind::Long),
            1 => (format!("count({})", self.any(columns).0), Kind::Long),
            2 => (
                format!("count(DISTINCT {})", self.column(columns).0),
                Kind::Long,
            ),
            3 => (
                format!("sum({})", self.expression(columns, Kind::Int, 2)),
                Kind::Long,
            ),
            4 => (
                format!("sum({})", self.expression(columns, Kind::Double, 1)),
                Kind::Double,
            ),
            5 => {
                let kind = [Kind::Int, Kind::Double][self.random.random_range(0..2)];
                (
                    format!("avg({})", self.expression(columns, kind, 1)),
                    Kind::Mean,
                )
            }
            6 => {
                let decimals = columns.iter().any(|(_, kind)| *kind == Kind::Decimal);
                let kind = if decimals { Kind::Decimal } else { Kind::Int };
                (
                    format!("sum({})", self.expression(columns, kind, 0)),
                    kind.widened(),
                )
            }
            _ => {
                let (text, kind) = self.any(columns);
                let name = self.one_of(&["min", "max"]);
                let kind = if kind == Kind::EventTime {
                    Kind::Time
                } else {
                    kind
                };
                (format!("{name}({text})"), kind)
            }
        };
        (format!("{call}{filter}"), kind)
    }

    fn column(&mut self, columns: &[(String, Kind)]) -> (String, Kind) {
        columns[self.random.random_range(0..columns.len())].clone()
    }

    /// An expression of whatever kind; a bare column keeps its own.
    fn any(&mut self, columns: &[(String, Kind)]) -> (String, Kind) {
        let (text, kind) = self.column(columns);
        if self.chance(0.4) || matches!(kind, Kind::Mean | Kind::Decimal | Kind::Long) {
            return (text, kind);
        }
        let kind = if kind == Kind::EventTime {
            Kind::Time
        } else {
            kind
        };
        (self.expression(columns, kind, 2), kind)
    }

    /// An expression of this kind over `columns`.
    fn expression(&mut self, columns: &[(String, Kind)], kind: Kind, depth: usize) -> String {
        let same: Vec<&String> = columns
            .iter()
            .filter(|(_, other)| {
                *other == kind || (kind == Kind::Time && *other == Kind::EventTime)
            })
            .map(|(text, _)| text)
            .collect();
        if !same.is_empty() && (depth == 0 || self.chance(0.3)) {
            return same[self.random.random_range(0..same.len())].clone();
        }
        if depth == 0 {
            return self.literal(kind);
        }
        let mut part = |kind| self.expression(columns, kind, depth - 1);
        if kind != Kind::Bool {
            let (a, b, test) = (part(kind), part(kind), part(Kind::Bool));
            match self.random.random_range(0..8) {
                0 => return format!("CASE WHEN {test} THEN {a} ELSE {b} END"),
                1 => return format!("coalesce({a}, {b})"),
                2 => return format!("if({test}, {a}, {b})"),
                3 => return format!("nullif({a}, {b})"),
                _ => {}
            }
        }
        match kind {
            Kind::Int => self.int(columns, depth),
            Kind::Double => self.double(columns, depth),
            Kind::Text => self.text(columns, depth),
            Kind::Bool => self.bool(columns, depth),
            Kind::Date => {
                let (date, time) = (
                    self.expression(columns, Kind::Date, depth - 1),
                    self.expression(columns, Kind::Time, depth - 1),
                );
                match self.random.random_range(0..3) {
                    0 => format!("date_add({date}, 30)"),
                    1 => format!("last_day({date})"),
                    _ => format!("CAST({time} AS DATE)"),
                }
            }
            Kind::Time | Kind::EventTime => {
                let time = self.expression(columns, Kind::Time, depth - 1);
                match self.random.random_range(0..3) {
                    0 => format!("({time} + INTERVAL '90' SECOND)"),
                    1 => format!("({time} - INTERVAL '1' DAY)"),
                    _ => format!("date_trunc('hour', {time})"),
                }
            }
            Kind::Long | Kind::Mean | Kind::Decimal => self.literal(kind),
        }
    }

    fn int(&mut self, columns: &[(String, Kind)], depth: usize) -> String {
        let a = self.expression(columns, Kind::Int, depth - 1);
        let b = self.expression(columns, Kind::Int, depth - 1);
        match self.random.random_range(0..8) {
            0 => format!("({a} + {b})"),
            1 => format!("({a} - {b})"),
            2 => format!("({a} * 3)"),
            3 => format!("({a} % 7)"),
            4 => format!("abs({a})"),
            5 => format!(
                "length({})",
                self.expression(columns, Kind::Text, depth - 1)
            ),
            6 => format!("month({})", self.expression(columns, Kind::Date, depth - 1)),
            _ => format!(
                "CAST({} AS INT)",
                self.expression(columns, Kind::Bool, depth - 1)
            ),
        }
    }

    fn double(&mut self, columns: &[(String, Kind)], depth: usize) -> String {
        let a = self.expression(columns, Kind::Double, depth - 1);
        let b = self.expression(columns, Kind::Double, depth - 1);
        match self.random.random_range(0..5) {
            0 => format!("({a} + {b})"),
            1 => format!("({a} * 2)"),
            2 => format!("(- {a})"),
            3 => format!("({} / 4)", self.expression(columns, Kind::Int, depth - 1)),
            _ => format!("round({a})"),
        }
    }

    fn text(&mut self, columns: &[(String, Kind)], depth: usize) -> String {
        let a = self.expression(columns, Kind::Text, depth - 1);
        let b = self.expression(columns, Kind::Text, depth - 1);
        match self.random.random_range(0..6) {
            0 => format!("upper({a})"),
            1 => format!("concat({a}, {b})"),
            2 => format!("substring({a}, 1, 1)"),
            3 => format!("trim({a})"),
            4 => format!("replace({a}, 'a', {b})"),
            _ => format!(
                "CAST({} AS STRING)",
                self.expression(columns, Kind::Int, depth - 1)
            ),
        }
    }

    fn bool(&mut self, columns: &[(String, Kind)], depth: usize) -> String {
        let comparable: Vec<Kind> = columns.iter().map(|(_, kind)| *kind).collect();
        let mut kind = comparable[self.random.random_range(0..comparable.len())];
        if kind == Kind::EventTime {
            kind = Kind::Time;
        }
        let a = self.expression(columns, kind, depth - 1);
        let b = self.expression(columns, kind, depth - 1);
        match self.random.random_range(0..10) {
            0 => {
                let (p, q) = (self.bool(columns, 1), self.bool(columns, 1));
                format!("({p} AND {q})")
            }
            1 => {
                let (p, q) = (self.bool(columns, 1), self.bool(columns, 1));
                format!("({p} OR {q})")
            }
            2 => format!("(NOT {})", self.bool(columns, 1)),
            3 => format!("({a} IS NULL)"),
            4 => format!("({a} IS DISTINCT FROM {b})"),
            5 => format!("({a} IN ({b}, {}))", self.literal(kind)),
            6 => {
                let text = self.expression(columns, Kind::Text, depth - 1);
                let pattern = self.one_of(&["a%", "%ü%", "_", "%a_%"]);
                format!("({text} LIKE '{pattern}')")
            }
            _ => {
                let sign = self.one_of(&["=", "<>", "<", "<=", ">", ">="]);
                format!("({a} {sign} {b})")
            }
        }
    }

    fn literal(&mut self, kind: Kind) -> String {
        let number = self.random.random_range(-5..20);
        match kind {
            Kind::Int => format!("CAST({number} AS INT)"),
            Kind::Long => format!("CAST({number} AS BIGINT)"),
            Kind::Double | Kind::Mean => format!("CAST({number}.25 AS DOUBLE)"),
            Kind::Decimal => format!("CAST({number}.50 AS DECIMAL(10, 2))"),
            Kind::Text => self.one_of(&["'a'", "'ü'", "''", "'日本'"]).into(),
            Kind::Bool => self.one_of(&["true", "false"]).into(),
            Kind::Date => self
                .one_of(&["DATE '2024-02-29'", "DATE '2024-01-31'"])
                .into(),
            Kind::Time | Kind::EventTime => "TIMESTAMP '2026-01-01 00:30:00'".into(),
        }
    }
}

impl Kind {
    /// What a sum of it is.
    fn widened(self) -> Self {
        if self == Self::Decimal {
            self
        } else {
            Self::Long
        }
    }
}

fn event_times(columns: &[(String, Kind)]) -> impl Iterator<Item = &(String, Kind)> {
    columns.iter().filter(|(_, kind)| *kind == Kind::EventTime)
}
