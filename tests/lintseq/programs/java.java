import java.io.IOException;
import java.util.*;
import java.util.function.Function;

interface Visitor<R> {
    R number(int value);

    R sum(Expression left, Expression right);
}

abstract class Expression {
    protected final String name;

    Expression(String name) {
        this.name = name;
    }

    abstract <R> R accept(Visitor<R> visitor);
}

class Num extends Expression {
    private final int value;

    Num(int value) {
        super("num");
        this.value = value;
    }

    @Override
    <R> R accept(Visitor<R> visitor) {
        return visitor.number(value);
    }
}

class Sum extends Expression {
    private final Expression left, right;

    Sum(Expression left, Expression right) {
        super("sum");
        this.left = left;
        this.right = right;
    }

    @Override
    <R> R accept(Visitor<R> visitor) {
        return visitor.sum(left, right);
    }
}

public class Calculator {
    enum Level {
        LOW(1),
        HIGH(2);

        private final int rank;

        Level(int rank) {
            this.rank = rank;
        }
    }

    private final Map<String, Integer> cache = new HashMap<>();
    private int misses;

    public int evaluate(Expression expression) {
        Integer known = cache.get(expression.name);
        if (known != null) {
            return known;
        }
        misses += 1;
        int result = expression.accept(new Visitor<Integer>() {
            @Override
            public Integer number(int value) {
                return value;
            }

            @Override
            public Integer sum(Expression left, Expression right) {
                int first = evaluate(left);
                return first + evaluate(right);
            }
        });
        cache.put(expression.name, result);
        return result;
    }

    private static String read(int times) throws IOException {
        String text;
        if (times > 1) {
            text = "many";
        } else {
            text = "few";
        }
        while (true) {
            times--;
            if (times < 0) {
                break;
            }
        }
        if (text.isEmpty()) {
            throw new IOException("nothing");
        }
        return text;
    }

    public static void main(String[] args) {
        Calculator calculator = new Calculator();
        Function<Integer, Integer> twice = (x) -> {
            int y = x * 2;
            return y;
        };
        try {
            System.out.println(read(twice.apply(args.length)));
        } catch (IOException error) {
            System.out.println(error.getMessage());
        }
        switch (args.length) {
            case 0:
                System.out.println(Level.LOW.rank);
                break;
            default:
                System.out.println(calculator.evaluate(new Sum(new Num(1), new Num(2))));
        }
    }
}
