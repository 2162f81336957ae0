// The parts of JUnit 5 and AssertJ that tests of exercises use, and what runs such tests.
// Each file is below a line with its path.
//==== org/junit/jupiter/api/Test.java
package org.junit.jupiter.api;

import java.lang.annotation.*;

@Retention(RetentionPolicy.RUNTIME)
public @interface Test {}
//==== org/junit/jupiter/api/BeforeEach.java
package org.junit.jupiter.api;

import java.lang.annotation.*;

@Retention(RetentionPolicy.RUNTIME)
public @interface BeforeEach {}
//==== org/junit/jupiter/api/AfterEach.java
package org.junit.jupiter.api;

import java.lang.annotation.*;

@Retention(RetentionPolicy.RUNTIME)
public @interface AfterEach {}
//==== org/junit/jupiter/api/Disabled.java
package org.junit.jupiter.api;

// Ignored: all tests run.
public @interface Disabled {
    String value() default "";
}
//==== org/junit/jupiter/api/extension/ExtensionContext.java
package org.junit.jupiter.api.extension;

public interface ExtensionContext {}
//==== org/junit/jupiter/api/extension/BeforeTestExecutionCallback.java
package org.junit.jupiter.api.extension;

public interface BeforeTestExecutionCallback {
    void beforeTestExecution(ExtensionContext context) throws Exception;
}
//==== org/junit/jupiter/api/extension/AfterTestExecutionCallback.java
package org.junit.jupiter.api.extension;

public interface AfterTestExecutionCallback {
    void afterTestExecution(ExtensionContext context) throws Exception;
}
//==== org/junit/jupiter/api/extension/ExtendWith.java
package org.junit.jupiter.api.extension;

import java.lang.annotation.*;

@Retention(RetentionPolicy.RUNTIME)
public @interface ExtendWith {
    Class<?>[] value();
}
//==== codegen/Tests.java
package codegen;

import java.io.File;
import java.lang.annotation.Annotation;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.*;
import org.junit.jupiter.api.*;
import org.junit.jupiter.api.extension.*;

public class Tests {
    private Tests() {}

    /** Runs the tests of classes; ends the JVM if one fails or there are none. */
    public static void run(Class<?>... classes) throws Exception {
        ClassLoader loader = classes[0].getClassLoader();
        String[] names = new File(".").list();
        // Before the program runs, which could write other classes.
        for (String name : names == null ? new String[0] : names)
            if (name.endsWith(".class"))
                Class.forName(name.substring(0, name.length() - 6), false, loader);
        int count = 0, failed = 0;
        for (Class<?> each : classes) {
            for (Method test : annotated(each, Test.class)) {
                count++;
                Throwable error = failure(each, test);
                if (error == null) continue;
                failed++;
                String text = error instanceof AssertionError ? error.getMessage() : error.toString();
                System.err.println("FAILED " + each.getName() + "." + test.getName() + "\n  " + text);
            }
        }
        if (failed == 0 && count > 0) return;
        System.err.println(failed + " of " + count + " tests failed");
        System.exit(1);
    }

    private static Throwable failure(Class<?> kind, Method test) {
        try {
            List<Object> extensions = new ArrayList<>();
            ExtendWith with = kind.getAnnotation(ExtendWith.class);
            for (Class<?> each : with == null ? new Class<?>[0] : with.value())
                extensions.add(made(each));
            Object instance = made(kind);
            for (Method method : annotated(kind, BeforeEach.class)) method.invoke(instance);
            for (Object each : extensions)
                if (each instanceof BeforeTestExecutionCallback)
                    ((BeforeTestExecutionCallback) each).beforeTestExecution(null);
            try {
                test.invoke(instance);
            } finally {
                for (Object each : extensions)
                    if (each instanceof AfterTestExecutionCallback)
                        ((AfterTestExecutionCallback) each).afterTestExecution(null);
                for (Method method : annotated(kind, AfterEach.class)) method.invoke(instance);
            }
            return null;
        } catch (InvocationTargetException error) {
            return error.getCause();
        } catch (Throwable error) {
            return error;
        }
    }

    private static Object made(Class<?> kind) throws Exception {
        var constructor = kind.getDeclaredConstructor();
        constructor.setAccessible(true);
        return constructor.newInstance();
    }

    private static List<Method> annotated(Class<?> kind, Class<? extends Annotation> by) {
        List<Method> found = new ArrayList<>();
        for (Method method : kind.getDeclaredMethods())
            if (method.isAnnotationPresent(by)) {
                method.setAccessible(true);
                found.add(method);
            }
        found.sort(Comparator.comparing(Method::getName));
        return found;
    }
}
//==== org/assertj/core/api/AssertionsForClassTypes.java
package org.assertj.core.api;

public class AssertionsForClassTypes extends Assertions {}
//==== org/assertj/core/api/Assertions.java
package org.assertj.core.api;

import java.lang.reflect.Array;
import java.util.*;

public class Assertions {
    protected Assertions() {}

    public static Check assertThat(Object actual) { return new Check(actual, false); }
    public static Check assertThat(char actual) { return new Check(actual, false); }
    // Their literals of other types are converted.
    public static Check assertThat(int actual) { return new Check(actual, true); }
    public static Check assertThat(long actual) { return new Check(actual, true); }
    public static Check assertThat(float actual) { return new Check(actual, true); }
    public static Check assertThat(double actual) { return new Check(actual, true); }
    public static Check assertThat(Integer actual) { return new Check(actual, true); }
    public static Check assertThat(Long actual) { return new Check(actual, true); }
    public static Check assertThat(Double actual) { return new Check(actual, true); }

    public static Thrown assertThatExceptionOfType(Class<? extends Throwable> kind) {
        return new Thrown(kind);
    }

    public static Thrown assertThatIllegalArgumentException() {
        return new Thrown(IllegalArgumentException.class);
    }

    public static Check assertThatThrownBy(Code code) {
        return new Thrown(Throwable.class).isThrownBy(code);
    }

    public static <T> T fail(String text) { throw new AssertionError(text); }
    public static double offset(double value) { return value; }
    public static double within(double value) { return value; }

    public interface Code {
        void call() throws Throwable;
    }

    public static class Thrown {
        private final Class<? extends Throwable> kind;

        private String description = "";

        Thrown(Class<? extends Throwable> kind) { this.kind = kind; }

        public Thrown as(String text, Object... values) {
            description = format(text, values);
            return this;
        }

        public Check isThrownBy(Code code) {
            Throwable thrown;
            try {
                code.call();
                thrown = null;
            } catch (Throwable error) {
                thrown = error;
            }
            return new Check(thrown, false).as(description).isInstanceOf(kind);
        }
    }

    public static class Check {
        private final Object actual;
        private final boolean isNumber;
        private String description = "", message = "";

        Check(Object actual, boolean isNumber) {
            this.actual = actual;
            this.isNumber = isNumber;
        }

        public Check as(String text, Object... values) {
            description = text.isEmpty() ? "" : "[" + format(text, values) + "] ";
            return this;
        }

        public Check withFailMessage(String text, Object... values) {
            message = format(text, values);
            return this;
        }

        public Check isEqualTo(Object expected) {
            return check(equal(expected, actual, isNumber), "", expected);
        }

        public Check isEqualTo(double expected, double offset) {
            return isCloseTo(expected, offset);
        }

        public Check isNotEqualTo(Object other) {
            return check(!equal(other, actual, isNumber), "anything but ", other);
        }

        public Check isNull() { return isEqualTo(null); }
        public Check isNotNull() { return isNotEqualTo(null); }
        public Check isTrue() { return isEqualTo(true); }
        public Check isFalse() { return isEqualTo(false); }
        public Check isZero() { return isEqualTo(0); }
        public Check isOne() { return isEqualTo(1); }

        public Check isCloseTo(double expected, double offset) {
            double value = ((Number) actual).doubleValue();
            boolean right = Math.abs(value - expected) <= offset;
            return check(right || Double.compare(value, expected) == 0, "about ", expected);
        }

        public Check isIn(Object... values) {
            return isIn(Arrays.asList(values));
        }

        public Check isIn(Iterable<?> values) {
            boolean found = false;
            for (Object value : values) found |= equal(value, actual, isNumber);
            return check(found, "one of ", values);
        }

        public Check isInstanceOf(Class<?> kind) {
            return check(kind.isInstance(actual), "an instance of ", kind.getName());
        }

        public Check withMessage(String text, Object... values) {
            String expected = format(text, values);
            return check(expected.equals(thrown()), "the message ", expected);
        }

        public Check hasMessageContaining(String text) {
            return check(thrown() != null && thrown().contains(text), "a message with ", text);
        }

        public Check isEmpty() { return check(size(actual) == 0, "", "empty"); }
        public Check isNotEmpty() { return check(size(actual) != 0, "", "not empty"); }
        public Check hasSize(int size) { return check(size(actual) == size, "the size ", size); }
        public Check hasSameSizeAs(Object other) { return hasSize(size(other)); }

        public Check hasDimensions(int rows, int columns) {
            boolean right = size(actual) == rows;
            for (Object row : items(actual)) right &= size(row) == columns;
            return check(right, "the dimensions ", rows + ", " + columns);
        }

        public Check containsExactly(Object... values) {
            List<Object> wanted = given(values), items = items(actual);
            boolean right = items.size() == wanted.size();
            for (int i = 0; right && i < wanted.size(); i++)
                right = equal(wanted.get(i), items.get(i), hasNumbers());
            return check(right, "exactly ", wanted);
        }

        public Check containsExactlyElementsOf(Iterable<?> values) {
            return containsExactly(items(values).toArray());
        }

        public Check containsExactlyInAnyOrder(Object... values) {
            List<Object> rest = items(actual), wanted = given(values);
            boolean right = rest.size() == wanted.size();
            for (Object value : wanted) right = right && taken(value, rest);
            return check(right, "in any order ", wanted);
        }

        public Check contains(Object... values) {
            List<Object> items = items(actual), wanted = given(values);
            boolean right = true;
            for (Object value : wanted) right &= taken(value, new ArrayList<>(items));
            return check(right, "among others ", wanted);
        }

        public Check containsOnly(Object... values) {
            List<Object> items = items(actual), wanted = given(values);
            boolean right = true;
            for (Object value : wanted) right &= taken(value, new ArrayList<>(items));
            for (Object item : items) {
                boolean found = false;
                for (Object value : wanted) found |= equal(value, item, hasNumbers());
                right &= found;
            }
            return check(right, "only ", wanted);
        }

        private boolean taken(Object value, List<Object> from) {
            for (int i = 0; i < from.size(); i++)
                if (equal(value, from.get(i), hasNumbers())) {
                    from.remove(i);
                    return true;
                }
            return false;
        }

        private boolean hasNumbers() {
            return actual != null && actual.getClass().isArray()
                && actual.getClass().getComponentType().isPrimitive();
        }

        /** The values of a call, which may be one array. */
        private List<Object> given(Object[] values) {
            boolean one = hasNumbers() && values.length == 1 && values[0].getClass().isArray();
            return items(one ? values[0] : values);
        }

        private String thrown() { return ((Throwable) actual).getMessage(); }

        private Check check(boolean right, String how, Object expected) {
            if (right) return this;
            String text = "expected: " + how + text(expected) + "\n   but was: " + text(actual);
            throw new AssertionError(description + (message.isEmpty() ? text : message));
        }
    }

    private static String format(String text, Object[] values) {
        return values.length == 0 ? text : String.format(text, values);
    }

    private static String text(Object value) {
        String text = Arrays.deepToString(new Object[] {value});
        text = text.substring(1, text.length() - 1);
        return text.length() > 500 ? text.substring(0, 500) + "..." : text;
    }

    /** Whether two values are equal by the expected one's own equality. */
    private static boolean equal(Object expected, Object actual, boolean isNumber) {
        boolean isNumeric = isNumber && actual instanceof Number;
        if (isNumeric && expected instanceof Character) expected = (int) (Character) expected;
        if (isNumeric && expected instanceof Number) {
            boolean whole = !isReal(expected), mine = !isReal(actual);
            if (whole && mine) return ((Number) expected).longValue() == ((Number) actual).longValue();
            if (!mine) return ((Number) expected).doubleValue() == ((Number) actual).doubleValue();
        }
        return Objects.deepEquals(expected, actual);
    }

    private static boolean isReal(Object value) {
        return value instanceof Double || value instanceof Float;
    }

    private static int size(Object value) {
        return value instanceof CharSequence ? ((CharSequence) value).length() : items(value).size();
    }

    private static List<Object> items(Object value) {
        if (value instanceof Map) value = ((Map<?, ?>) value).entrySet();
        List<Object> items = new ArrayList<>();
        if (value instanceof Iterable) {
            for (Object item : (Iterable<?>) value) items.add(item);
        } else if (value instanceof Optional) {
            ((Optional<?>) value).ifPresent(items::add);
        } else {
            if (value == null || !value.getClass().isArray())
                throw new AssertionError("expected several values\n   but was: " + text(value));
            for (int i = 0; i < Array.getLength(value); i++) items.add(Array.get(value, i));
        }
        return items;
    }
}
