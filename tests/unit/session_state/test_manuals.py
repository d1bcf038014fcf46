"""A control list: statements as the manuals, mysqldump and Django write them.

From the MySQL 8.4 reference manual (12.14, 12.15, 15.3.1, 15.3.8, 15.5, 15.7.6, 11.4) and
MariaDB's documentation of the same statements.
"""

from __future__ import annotations

from django_mysql_recycle.session_state import SessionState, examine

from ..rows import each

NAMED = ("named lock",)
TABLES = ("table lock",)
TEMPORARY = ("temporary table",)
TRANSACTION = ("transaction",)
PREPARED = ("prepared statement",)
SESSION = ("session variable",)
USER = ("user variable",)
SERVICE = ("service lock",)
UNKNOWN = ("unknown state",)
NOTHING = ()

MANUALS = [
    ("SELECT GET_LOCK('lock1',10);", NAMED),
    ("SELECT GET_LOCK('lock1',10); SELECT RELEASE_LOCK('lock1');", NOTHING),
    ("SELECT GET_LOCK('lock1',10); SELECT RELEASE_LOCK('lock2');", NAMED),
    ("SELECT GET_LOCK('a',10); SELECT GET_LOCK('b',10); SELECT RELEASE_ALL_LOCKS();", NOTHING),
    ("SELECT IS_FREE_LOCK('lock1'), IS_USED_LOCK('lock1'), RELEASE_ALL_LOCKS();", NOTHING),
    ("SELECT service_get_read_locks('mynamespace', 'rlock1', 'rlock2', 10);", SERVICE),
    ("SELECT service_get_write_locks('mynamespace', 'lock1', 10);", SERVICE),
    (
        "SELECT service_get_write_locks('mynamespace', 'lock1', 10);"
        " SELECT service_release_locks('mynamespace');",
        NOTHING,
    ),
    ("SELECT service_release_locks('mynamespace');", NOTHING),
    ("SELECT version_tokens_lock_exclusive('lock1', 'lock2', 10);", SERVICE),
    ("SELECT version_tokens_lock_shared('lock1', 10);", SERVICE),
    ("SELECT version_tokens_lock_shared('lock1', 10); SELECT version_tokens_unlock();", NOTHING),
    ("SELECT version_tokens_set('tok1=a;tok2=b'), version_tokens_show();", NOTHING),
    ("INSTALL PLUGIN version_tokens SONAME 'version_token.so';", NOTHING),
    ("CREATE FUNCTION service_get_read_locks RETURNS INT SONAME 'locking_service.so';", NOTHING),
    ("DROP FUNCTION service_release_locks;", NOTHING),
    ("DO SLEEP(5);", NOTHING),
    ("SELECT BENCHMARK(1000000,AES_ENCRYPT('hello','goodbye'));", NOTHING),
    ("LOCK TABLES trans READ, customer WRITE;", TABLES),
    ("LOCK TABLE t1 AS t2 LOW_PRIORITY WRITE WAIT 10;", TABLES),
    ("LOCK TABLES t1 READ; SELECT COUNT(*) FROM t1; UNLOCK TABLES;", NOTHING),
    ("FLUSH TABLES tbl_name WITH READ LOCK;", TABLES),
    ("FLUSH NO_WRITE_TO_BINLOG TABLES WITH READ LOCK;", TABLES),
    ("FLUSH TABLES t1 FOR EXPORT;", TABLES),
    ("FLUSH LOGS, STATUS;", NOTHING),
    ("BACKUP STAGE START; BACKUP STAGE BLOCK_DDL; BACKUP STAGE END;", NOTHING),
    ("CREATE TEMPORARY TABLE new_tbl SELECT * FROM orig_tbl LIMIT 0;", TEMPORARY),
    ("CREATE TEMPORARY TABLE new_tbl LIKE orig_tbl", TEMPORARY),
    ("CREATE TEMPORARY TABLE t (a int); DROP TEMPORARY TABLE t", NOTHING),
    ("CREATE TABLE new_tbl AS SELECT * FROM orig_tbl;", NOTHING),
    ("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY;", TRANSACTION),
    ("START TRANSACTION; SELECT @A:=SUM(salary) FROM table1; COMMIT;", USER),
    ("BEGIN WORK; ROLLBACK WORK AND NO CHAIN RELEASE", NOTHING),
    ("COMMIT AND CHAIN NO RELEASE", TRANSACTION),
    ("SAVEPOINT identifier; ROLLBACK WORK TO SAVEPOINT identifier", NOTHING),
    ("XA START 'xatest'; INSERT INTO mytable (i) VALUES(10); XA END 'xatest';", TRANSACTION),
    ("XA START 'x'; XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x';", NOTHING),
    ("XA RECOVER CONVERT XID;", NOTHING),
    ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;", SESSION),
    ("SET GLOBAL TRANSACTION ISOLATION LEVEL SERIALIZABLE;", NOTHING),
    ("SET GLOBAL max_connections = 1000;", NOTHING),
    ("SET @@GLOBAL.max_connections = 1000;", NOTHING),
    ("SET PERSIST max_connections = 1000;", NOTHING),
    ("SET @@PERSIST_ONLY.back_log = 100;", NOTHING),
    ("SET SESSION sql_mode = 'TRADITIONAL';", SESSION),
    ("SET @@LOCAL.sql_mode = 'TRADITIONAL';", SESSION),
    ("SET @@sql_mode = 'TRADITIONAL';", SESSION),
    ("SET sql_mode = 'TRADITIONAL';", SESSION),
    ("SET @x = 1, SESSION sql_mode = '';", SESSION + USER),
    ("SET GLOBAL sort_buffer_size = 1000000, SESSION sort_buffer_size = 1000000;", SESSION),
    ("SET @@GLOBAL.sort_buffer_size = 1000000, @@LOCAL.sort_buffer_size = 1000000;", SESSION),
    ("SET GLOBAL max_connections = 1000, sort_buffer_size = 1000000;", NOTHING),
    ("SET @@SESSION.max_join_size = DEFAULT;", SESSION),
    ("SET PASSWORD FOR 'jeffrey'@'localhost' = 'auth_string';", NOTHING),
    ("SET PASSWORD = PASSWORD('cleartext password');", NOTHING),
    ("SET ROLE ALL EXCEPT 'r1'@'host', 'r2';", SESSION),
    ("SET DEFAULT ROLE administrator, developer TO 'joe'@'10.0.0.1';", NOTHING),
    ("SET RESOURCE GROUP rg1;", SESSION),
    ("SET NAMES 'utf8mb4' COLLATE 'utf8mb4_general_ci';", SESSION),
    ("SET CHARACTER SET 'charset_name'", SESSION),
    ("SET STATEMENT max_statement_time=1000 FOR SELECT * FROM t;", NOTHING),
    ("SET STATEMENT sort_buffer_size=100000 FOR CREATE TEMPORARY TABLE t (a int);", TEMPORARY),
    ("SET @name = 43;", USER),
    ("SET @total_tax = (SELECT SUM(tax) FROM taxable_transactions);", USER),
    ("SELECT @t1, @t2, @t3, @t4 := @t1+@t2+@t3;", USER),
    ("SELECT id, data INTO @x, @y FROM test.t1 LIMIT 1;", USER),
    ("SELECT id, data FROM t INTO OUTFILE '/tmp/a@b' FIELDS TERMINATED BY ',';", NOTHING),
    ("CREATE USER 'jeffrey'@'localhost' IDENTIFIED BY 'p@ssword';", NOTHING),
    ("GRANT ALL ON db1.* TO jeffrey@localhost WITH GRANT OPTION;", NOTHING),
    ("REVOKE INSERT ON *.* FROM 'jeffrey'@'localhost';", NOTHING),
    ("RENAME USER 'jeffrey'@'localhost' TO jeff@127.0.0.1;", NOTHING),
    ("PREPARE stmt1 FROM 'SELECT SQRT(POW(?,2) + POW(?,2)) AS hypotenuse';", PREPARED),
    ("PREPARE s FROM 'SELECT ?'; EXECUTE s USING @a; DEALLOCATE PREPARE s;", USER),
    ("PREPARE stmt3 FROM @s;", PREPARED + USER),
    ("PREPARE stmt3 FROM @s; EXECUTE stmt3 USING @c; DEALLOCATE PREPARE stmt3;", USER + UNKNOWN),
    ("PREPARE stmt FROM CONCAT('SELECT * FROM ', table_name);", PREPARED),
    ("EXECUTE stmt1 USING @a, @b;", UNKNOWN + USER),
    ("EXECUTE IMMEDIATE 'SELECT 1'", NOTHING),
    ("EXECUTE IMMEDIATE 'SELECT * FROM t WHERE a = ?' USING 5+5;", NOTHING),
    ("EXECUTE IMMEDIATE CONCAT('SELECT COUNT(*) FROM ', 't1', ' WHERE a = ?') USING 5+5;", UNKNOWN),
    ("EXECUTE IMMEDIATE IF(1, 'SELECT 1', 'SELECT 2');", UNKNOWN),
    ("EXECUTE IMMEDIATE @q;", UNKNOWN + USER),
    ("EXECUTE IMMEDIATE NULL;", UNKNOWN),
    ("HANDLER tbl_name OPEN AS alias", ("handler",)),
    ("HANDLER tbl_name OPEN; HANDLER tbl_name READ FIRST; HANDLER tbl_name CLOSE", NOTHING),
    ("USE db1;", NOTHING),
    ("SELECT SQL_CALC_FOUND_ROWS * FROM tbl_name WHERE id > 100 LIMIT 10;", NOTHING),
    ("SELECT 1 /*! +1 */;", NOTHING),
    ("SELECT /*+ SET_VAR(optimizer_switch = 'mrr_cost_based=off') */ 1;", NOTHING),
    ("SHOW VARIABLES LIKE '%@%';", NOTHING),
    ("SELECT NEXTVAL(s), SETVAL(s, 5);", NOTHING),
    (
        """CREATE DEFINER = 'admin'@'localhost' PROCEDURE account_count()
        SQL SECURITY INVOKER
        BEGIN
          SELECT 'Number of accounts:', COUNT(*) FROM mysql.user;
          SET @n = 1; START TRANSACTION; CREATE TEMPORARY TABLE t (a int);
        END;""",
        NOTHING,
    ),
    ("CREATE EVENT e ON SCHEDULE EVERY 1 HOUR DO CREATE TEMPORARY TABLE t (a int)", NOTHING),
]

MYSQLDUMP = [
    ("/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;", USER),
    ("/*!50503 SET NAMES utf8mb4 */;", SESSION),
    ("/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;", SESSION + USER),
    ("LOCK TABLES `t` WRITE;", TABLES),
    ("/*!40000 ALTER TABLE `t` DISABLE KEYS */;", NOTHING),
    ("LOCK TABLES `t` WRITE; UNLOCK TABLES;", NOTHING),
    (
        "/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER `tr` BEFORE "
        "INSERT ON `t` FOR EACH ROW BEGIN SET @x = 1; SET NEW.a = 2; END */;",
        NOTHING,
    ),
]

DJANGO = [
    (
        "SELECT VERSION(), @@sql_mode, @@default_storage_engine, @@sql_auto_is_null, "
        "@@lower_case_table_names, CONVERT_TZ('2001-01-01 01:00:00', 'UTC', 'UTC') IS NOT NULL",
        NOTHING,
    ),
    ("SET SQL_AUTO_IS_NULL = 0", SESSION),
    ("SET foreign_key_checks=0", SESSION),
    ("SET foreign_key_checks=0; SET foreign_key_checks=1", NOTHING),
    ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", SESSION),
    ("SAVEPOINT `s140235_x1`", NOTHING),
    ("ROLLBACK TO SAVEPOINT `s140235_x1`", NOTHING),
    ("RELEASE SAVEPOINT `s140235_x1`", NOTHING),
    ("SELECT `a`.`id` FROM `a` WHERE `a`.`email` LIKE BINARY %s ORDER BY 1 LIMIT 21", NOTHING),
    ("SELECT `a`.`id` FROM `a` WHERE `a`.`id` = %s LIMIT 21 FOR UPDATE SKIP LOCKED", NOTHING),
    ("INSERT INTO `a` (`b`) VALUES (%s) ON DUPLICATE KEY UPDATE `b` = VALUES(`b`)", NOTHING),
    ("ALTER TABLE `a` ADD COLUMN `b` integer DEFAULT 0 NOT NULL", NOTHING),
    ("SELECT GET_LOCK(%s, %s)", NAMED),
]


#: Statements of both manuals whose verb leaves nothing in the session.
LEAVE_NOTHING = """
ALTER DATABASE d CHARACTER SET utf8mb4
ALTER EVENT e DISABLE
ALTER INSTANCE ROTATE INNODB MASTER KEY
ALTER SERVER s OPTIONS (USER 'sally')
ALTER TABLESPACE ts RENAME TO tt
ALTER USER 'jeffrey'@'localhost' ACCOUNT LOCK
ANALYZE TABLE t PERSISTENT FOR ALL
CACHE INDEX t1, t2 IN hot_cache
CHANGE MASTER TO MASTER_HOST='source2'
CHANGE REPLICATION SOURCE TO SOURCE_HOST='source2'
CHANGE REPLICATION FILTER REPLICATE_DO_DB = (d1)
CHECK TABLE t1 FOR UPGRADE
CHECKSUM TABLE t1 EXTENDED
CLONE LOCAL DATA DIRECTORY = '/tmp/clone'
CREATE DATABASE IF NOT EXISTS d
CREATE LOGFILE GROUP lg ADD UNDOFILE 'undo.dat' ENGINE = NDB
CREATE ROLE 'r1', 'r2'
CREATE SEQUENCE s START WITH 100
CREATE SPATIAL REFERENCE SYSTEM 4120 NAME 'Greek'
CREATE UNIQUE INDEX i ON t (a)
DELETE QUICK FROM t LIMIT 5
DESC t
DESCRIBE EXTENDED SELECT 1
DROP USER 'jeffrey'@'localhost'
DROP PACKAGE p
EXPLAIN ANALYZE SELECT 1
EXPLAIN FOR CONNECTION 4
FLUSH BINARY LOGS, STATUS
FLUSH TABLES t1, t2
GRANT PROXY ON 'a'@'b' TO 'c'@'d'
HELP 'contents'
IMPORT TABLE FROM '/tmp/t.sdi'
INSTALL COMPONENT 'file://component_validate_password'
INSTALL SONAME 'ha_rocksdb'
KILL QUERY ID 17
KILL SOFT CONNECTION 5
LOAD INDEX INTO CACHE t1, t2 IGNORE LEAVES
OPTIMIZE LOCAL TABLE t
PURGE BINARY LOGS BEFORE '2019-04-02 22:46:26'
REPAIR TABLE t QUICK
RESET BINARY LOGS AND GTIDS
RESET PERSIST IF EXISTS a
RESET QUERY CACHE
RESTART
REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'u'@'h'
SHOW ENGINE INNODB STATUS
SHOW EXPLAIN FOR 5
SHUTDOWN WAIT FOR ALL SLAVES
SIGNAL SQLSTATE '01000' SET MESSAGE_TEXT = 'x'
START ALL SLAVES
START GROUP_REPLICATION
START REPLICA IO_THREAD
START SLAVE 'a' UNTIL MASTER_LOG_FILE = 'x', MASTER_LOG_POS = 4
STOP ALL SLAVES
STOP REPLICA FOR CHANNEL 'c'
TABLE t ORDER BY a LIMIT 3
TRUNCATE t
UNINSTALL PLUGIN p
VALUES ROW(1,-2), ROW(5,7)
WITH RECURSIVE c AS (SELECT 1) SELECT * FROM c
XA PREPARE 'x'
""".strip().splitlines()

#: Statements that no list has, or of which no list can say what they leave.
NOT_KNOWN = """
BINLOG 'SgrXYg8BAAAA'
BACKUP SERVER TO '/tmp/b'
LOCK STATS t
UNLOCK STATS t
START COLLECTING
ADMIN CHECK TABLE t
SPLIT TABLE t BETWEEN (0) AND (1000) REGIONS 4
{CALL p()}
/* who knows */ NEWVERB a = 1
SET STATEMENT max_statement_time = 1 FOR NEWVERB
(NEWVERB)
""".strip().splitlines()


@each(LEAVE_NOTHING)
def test_verb_that_is_known_to_leave_nothing_pins_nothing(sql: str) -> None:
    statement = examine(sql)
    assert (statement.changes, statement.calls) == ((), False)


@each([*NOT_KNOWN, "NEWVERB; SELECT 1", "SELECT 1; NEWVERB", "EXECUTE IMMEDIATE 'NEWVERB'"])
def test_verb_that_is_not_known_pins_until_the_unit_of_work_ends(sql: str) -> None:
    state = SessionState()
    statement = examine(sql)
    state.apply_begins(statement, None, 0.0)
    assert state.pinned is (sql == "NEWVERB; SELECT 1")  # where it may have run before it failed
    state.apply(statement, None, 0.0)
    assert (state.kinds(), state.database_unknown) == (UNKNOWN, True)
    assert not statement.repeatable or sql.startswith("EXECUTE")
    state.end_unit_of_work()
    assert not state.pinned


@each(MANUALS + MYSQLDUMP + DJANGO)
def test_statement_of_the_control_list_pins(sql: str, kinds: tuple[str, ...]) -> None:
    state = SessionState()
    state.apply(examine(sql), ["a", 1], 0.0)
    assert state.kinds() == kinds


@each(
    [
        ("SELECT LAST_INSERT_ID();", ["LAST_INSERT_ID()"]),
        (
            "UPDATE sequence SET id=LAST_INSERT_ID(id+1); SELECT LAST_INSERT_ID();",
            ["LAST_INSERT_ID()"],
        ),
        ("INSERT INTO t2 (id2) VALUES (LAST_INSERT_ID())", ["LAST_INSERT_ID()"]),
        ("SELECT * FROM tbl_name WHERE auto_col IS NULL", []),
        ("SELECT FOUND_ROWS();", ["FOUND_ROWS()"]),
        ("SELECT ROW_COUNT();", ["ROW_COUNT()"]),
        ("SHOW WARNINGS LIMIT 5, 10", ["SHOW WARNINGS"]),
        ("SHOW COUNT(*) ERRORS;", ["SHOW ERRORS"]),
        ("SHOW ERRORS;", ["SHOW ERRORS"]),
        ("GET DIAGNOSTICS @p1 = NUMBER, @p2 = ROW_COUNT;", ["GET DIAGNOSTICS", "@p1", "@p2"]),
        (
            "SELECT * FROM shop WHERE price=@min_price OR price=@max_price;",
            ["@min_price", "@max_price"],
        ),
        ("EXECUTE stmt1 USING @a, @b;", ["@a", "@b"]),
        ("CALL p(@version, @increment);", []),
        ("LOAD DATA INFILE 'file.txt' INTO TABLE t1 (column1, @var1) SET c = @var1/100;", []),
        ("SELECT LASTVAL(s);", ["LASTVAL()"]),
        ("SELECT CURRENT_USER(), CONNECTION_ID(), DATABASE(), VERSION()", []),
    ]
)
def test_statement_of_the_control_list_reads(sql: str, reads: list[str]) -> None:
    assert [str(read) for read in examine(sql).reads] == reads
