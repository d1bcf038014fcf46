"""Which statements lock tables, and which make and end temporary ones."""

from __future__ import annotations

from .claims import claims, effects

TABLE_LOCKS = {
    "LOCK TABLES": ("LOCK TABLES t WRITE, u READ", "+table lock tables"),
    "LOCK TABLE": ("lock table t read", "+table lock tables"),
    "UNLOCK TABLES": ("UNLOCK TABLES", "-table lock tables"),
    "UNLOCK TABLE": ("UNLOCK TABLE", "-table lock tables"),
    "LOCK INSTANCE": ("LOCK INSTANCE FOR BACKUP", "+table lock instance"),
    "UNLOCK INSTANCE": ("UNLOCK INSTANCE", "-table lock instance"),
    "FLUSH with read lock": ("FLUSH TABLES WITH READ LOCK", "+table lock tables"),
    "FLUSH some with read lock": ("FLUSH LOCAL TABLES t, u WITH READ LOCK", "+table lock tables"),
    "FLUSH for export": ("FLUSH TABLES t FOR EXPORT", "+table lock tables"),
    "FLUSH alone": ("FLUSH TABLES t",),
    "FLUSH privileges": ("FLUSH PRIVILEGES",),
    "a backup stage": ("BACKUP STAGE START", "+table lock backup stage"),
    "a later backup stage": ("BACKUP STAGE BLOCK_COMMIT", "+table lock backup stage"),
    "the end of a backup": ("BACKUP STAGE END", "-table lock backup stage"),
    "BACKUP LOCK": ("BACKUP LOCK t", "+table lock backup lock"),
    "BACKUP UNLOCK": ("BACKUP UNLOCK", "-table lock backup lock"),
    "another BACKUP": ("BACKUP SERVER", "!unknown state"),
}


TEMPORARY_TABLES = {
    "created": ("CREATE TEMPORARY TABLE t (a int)", "+temporary table t"),
    "if it does not exist": (
        "CREATE TEMPORARY TABLE IF NOT EXISTS t (a int)",
        "+temporary table t",
    ),
    "replaced": ("CREATE OR REPLACE TEMPORARY TABLE t (a int)", "+temporary table t"),
    "with a schema": ("CREATE TEMPORARY TABLE s . t (a int)", "+temporary table s.t"),
    "in backticks": ("CREATE TEMPORARY TABLE `s`.`t`(a int)", "+temporary table s.t"),
    "in double quotes": ('CREATE TEMPORARY TABLE "t" (a int)', "+temporary table t"),
    "case is kept": ("CREATE TEMPORARY TABLE Tt (a int)", "+temporary table Tt"),
    "AS SELECT": ("create temporary table t select 1", "+temporary table t"),
    "a sequence": ("CREATE TEMPORARY SEQUENCE s", "+temporary table s"),
    "as a dump writes it": ("CREATE /*!32302 TEMPORARY */ TABLE t (a int)", "+temporary table t"),
    "dropped": ("DROP TABLE t", "-temporary table t"),
    "dropped as temporary": ("DROP TEMPORARY TABLE IF EXISTS `t`", "-temporary table t"),
    "several dropped": (
        "DROP TABLES s.t, `u` CASCADE",
        "-temporary table s.t",
        "-temporary table u",
    ),
    "a sequence dropped": ("DROP SEQUENCE s", "-temporary table s"),
    "nothing dropped": ("DROP TABLE",),
    "an ordinary table": ("CREATE TABLE temporary (temporary int)",),
    "a renamed table stays": ("ALTER TABLE t RENAME u", "~temporary table t"),
    "another way to rename": (
        "RENAME TABLE t TO u, s.v TO w",
        "~temporary table t",
        "~temporary table s.v",
    ),
    "among other changes": (
        "ALTER TABLE `t` ADD COLUMN (a int, b int), RENAME AS u",
        "~temporary table t",
    ),
    "a renamed column": ("ALTER TABLE t RENAME COLUMN a TO b, RENAME INDEX i TO j",),
    "a renamed key": ("ALTER TABLE t RENAME KEY i TO j",),
    "a renamed user": ("RENAME USER u TO v",),
    "a truncated table stays": ("TRUNCATE TABLE t",),
    "a dropped schema ends nothing": ("DROP DATABASE s",),
    "a dropped index": ("DROP INDEX i ON t",),
}


@claims(TABLE_LOCKS | TEMPORARY_TABLES)
def test_statement_about_tables_does_this(sql: str, expected: list[str]) -> None:
    assert effects(sql) == expected
