// An application that knows nothing of shards, with JDBC, for test_sharded.py.
// Arguments: host, port, owners.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.util.Properties;

public class Sharded {
    public static void main(String[] arguments) throws Exception {
        String place = arguments[0] + ":" + arguments[1];
        Properties properties = new Properties();
        properties.setProperty("user", "postgres");
        properties.setProperty("prepareThreshold", "2");
        try (Connection connection =
                DriverManager.getConnection("jdbc:postgresql://" + place + "/items", properties)) {
            connection.setAutoCommit(false);
            for (int i = 2; i < arguments.length; i++) {
                long owner = Long.parseLong(arguments[i]);
                run(connection, "INSERT INTO accounts (owner, balance) VALUES (?, 100)", owner);
                run(connection, "INSERT INTO entries (owner, id, amount) VALUES (?, 1, -30)", owner);
                run(connection, "UPDATE accounts SET balance = balance - 30 WHERE owner = ?", owner);
                connection.commit();
                run(connection, "DELETE FROM entries WHERE owner = ?", owner);
                connection.rollback();
                String sql = "SELECT balance, amount FROM accounts JOIN entries USING (owner) WHERE owner = ?";
                try (PreparedStatement statement = connection.prepareStatement(sql)) {
                    statement.setFetchSize(1);
                    statement.setLong(1, owner);
                    ResultSet found = statement.executeQuery();
                    if (!found.next() || found.getInt(1) != 70 || found.getInt(2) != -30 || found.next()) {
                        throw new IllegalStateException("owner " + owner);
                    }
                }
                connection.commit();
            }
        }
    }

    private static void run(Connection connection, String sql, long owner) throws Exception {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            statement.setLong(1, owner);
            statement.executeUpdate();
        }
    }
}
