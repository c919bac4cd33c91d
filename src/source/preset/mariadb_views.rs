//! Views of MariaDB and MySQL. A view can only be made where all that it reads is there, in whichever database, and
//! where whoever defined a view beneath it is there too, with his rights. So no dump of a database has its views in it.
//! On the way back, when all databases are there, each view first gets a placeholder with the same columns; then users
//! get their rights, some of which may be on views; then the views take the place of their placeholders.

use super::mariadb::{Ask, identifier, literal, text_of_hex};

/// Where the views of each database lie, as the databases do above.
pub const DIRECTORY: &str = "views/";
/// Of all views of all databases.
pub const PLACEHOLDERS: &str = "views/placeholders";
/// Users and their rights, without changing those who are there.
pub const ACCOUNTS: &str = "views/accounts";

/// A view and the names of its columns.
pub struct View {
    pub name: String,
    columns: Vec<String>,
}

/// The views of a database. One that is broken has no columns, and is none of them: then the dump fails, and says why.
pub fn list(ask: &Ask<'_>, database: &str) -> Result<Vec<View>, String> {
    let schema = literal(database);
    let query = format!(
        "SELECT HEX(c.table_name), HEX(c.column_name) FROM information_schema.views v \
         JOIN information_schema.columns c ON c.table_schema = v.table_schema AND c.table_name = v.table_name \
         WHERE v.table_schema = {schema} AND c.table_schema = {schema} ORDER BY c.table_name, c.ordinal_position"
    );
    let mut views: Vec<View> = Vec::new();
    for line in ask(&query)?.lines() {
        let (name, column) = line.split_once('\t').unwrap_or((line, ""));
        let (name, column) = (text_of_hex(name)?, text_of_hex(column)?);
        match views.last_mut().filter(|last| last.name == name) {
            Some(last) => last.columns.push(column),
            None => views.push(View { name, columns: vec![column] }),
        }
    }
    Ok(views)
}

/// Whether arguments of a dump leave a table or view out.
pub fn is_left_out(arguments: &[String], database: &str, name: &str) -> bool {
    let whole = format!("{database}.{name}");
    let pairs = arguments.iter().zip(arguments.iter().skip(1));
    arguments.iter().any(|word| word.strip_prefix("--ignore-table=") == Some(&whole))
        || pairs.into_iter().any(|(word, next)| word == "--ignore-table" && *next == whole)
}

/// Statements that make the placeholders of a database's views.
pub fn placeholders(database: &str, views: &[View]) -> String {
    let statement = |view: &View| {
        let columns = view.columns.iter().map(|column| format!("1 AS {}", identifier(column)));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let (database, name) = (identifier(database), identifier(&view.name));
        format!("CREATE OR REPLACE VIEW {database}.{name} AS SELECT {columns};\n")
    };
    views.iter().map(statement).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_has_the_columns_of_its_view() {
        let printed = "61\t78\n61\t6060\n62\t79\n";
        let views = list(&|_| Ok(printed.to_owned()), "d").unwrap();
        assert_eq!(
            placeholders("d", &views),
            "CREATE OR REPLACE VIEW `d`.`a` AS SELECT 1 AS `x`, 1 AS ``````;\n\
             CREATE OR REPLACE VIEW `d`.`b` AS SELECT 1 AS `y`;\n"
        );
        assert!(list(&|_| Ok("zz\t78".to_owned()), "d").is_err());
    }

    #[test]
    fn arguments_that_leave_a_view_out_are_seen() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        for (arguments, left_out) in [
            (words(&["--ignore-table=d.v"]), true),
            (words(&["--quick", "--ignore-table", "d.v"]), true),
            (words(&["--ignore-table=d.vv", "--ignore-table", "v"]), false),
            (words(&["--ignore-table"]), false),
            (words(&[]), false),
        ] {
            assert_eq!(is_left_out(&arguments, "d", "v"), left_out, "{arguments:?}");
        }
    }
}
