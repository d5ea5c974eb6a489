// The operators that the builder offers for a field, and their conditions in the filter language.
//
// Each has `value`, the kind of editor for it, `needs`, the filter operators that the field must have (ListFields),
// `write`, the condition for a value, and `read`, the value of a condition, or undefined for one that means anything else
// than the controls show.

const DAY = 86_400_000;
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const keysAre = (value, ...keys) => isObject(value) && Object.keys(value).sort().join() === keys.sort().join();
const only = (key) => (condition) => (keysAre(condition, key) ? condition[key] : undefined);
const isPlain = (value) => ["string", "number", "boolean"].includes(typeof value);
const listOf = (list) => (Array.isArray(list) && list.length && list.every(isPlain) ? list : undefined);
const numberOf = (value) => (typeof value === "number" ? value : undefined);
const textOf = (value) => (typeof value === "string" ? value : undefined);

const ago = (days) => ({ $dateSubtract: { startDate: "$$NOW", unit: "day", amount: days } });
function daysOf(expression) {
  const parts = only("$dateSubtract")(expression);
  return keysAre(parts, "startDate", "unit", "amount") && parts.startDate === "$$NOW" && parts.unit === "day" ? parts.amount : undefined;
}

// A date field holds instants: a day becomes its midnight in UTC. A text field with dates holds days: they stay days.
const instant = (day, field) => (hasType(field, "date") ? `${day}T00:00:00.000Z` : day);
const dayAfter = (day) => new Date(Date.parse(day) + DAY).toISOString().slice(0, 10);
const dayBefore = (day) => new Date(Date.parse(day) - DAY).toISOString().slice(0, 10);
function dayOf(text) {
  const [, day] = /^(\d{4}-\d\d-\d\d)(T00:00:00(\.000)?Z)?$/.exec(textOf(text)) ?? [];
  const time = Date.parse(day);
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(day) ? day : undefined; // 30 February becomes 2 March
}

const hasType = (field, name) => field.types.some((type) => type.name === name);
const isNumber = (field) => ["int", "long", "double", "decimal"].some((name) => hasType(field, name));
const isList = (field) => hasType(field, "array");
const isDate = (field) => field.operators.includes("$onDay");
const isText = (field) => hasType(field, "string") && !isDate(field);
const isBoolean = (field) => hasType(field, "bool");
const emptyValues = (field) => (isList(field) ? [null, []] : [null, ""]);
const isSame = (value, other) => JSON.stringify(value) === JSON.stringify(other);

const text = (name, label, negated) => ({
  label,
  value: "text",
  fits: isText,
  needs: [name],
  write: (value) => (negated ? { $not: { [name]: value } } : { [name]: value }),
  read: (condition) => textOf(only(name)(negated ? only("$not")(condition) : condition)),
});
const comparison = (name, label) => ({
  label,
  value: "number",
  fits: isNumber,
  needs: [name],
  write: (value) => ({ [name]: value }),
  read: (condition) => numberOf(only(name)(condition)),
});

export const OPERATORS = {
  atLeast: comparison("$gte", "is at least"),
  atMost: comparison("$lte", "is at most"),
  moreThan: comparison("$gt", "is more than"),
  lessThan: comparison("$lt", "is less than"),
  between: {
    label: "is between",
    value: "numbers",
    fits: isNumber,
    needs: ["$gte", "$lte"],
    write: ([low, high]) => ({ $gte: low, $lte: high }),
    read: (condition) => (keysAre(condition, "$gte", "$lte") ? listOf([condition.$gte, condition.$lte].map(numberOf)) : undefined),
  },
  anyOf: {
    label: (field) => (isList(field) ? "has any of" : "is"),
    value: "values",
    fits: (field) => (isText(field) || isList(field) || isNumber(field)) && !isDate(field),
    needs: ["$in"],
    write: (values) => (values.length === 1 ? values[0] : { $in: values }),
    read: (condition) => listOf(isPlain(condition) ? [condition] : (listOf([only("$eq")(condition)]) ?? only("$in")(condition))),
  },
  noneOf: {
    label: (field) => (isList(field) ? "has none of" : "is not"),
    value: "values",
    fits: (field) => OPERATORS.anyOf.fits(field),
    needs: ["$nin"],
    write: (values) => (values.length === 1 ? { $ne: values[0] } : { $nin: values }),
    read: (condition) => listOf([only("$ne")(condition)]) ?? listOf(only("$nin")(condition)),
  },
  allOf: {
    label: "has all of",
    value: "values",
    fits: isList,
    needs: ["$all"],
    write: (values) => ({ $all: values }),
    read: (condition) => listOf(only("$all")(condition)),
  },
  inLast: {
    label: "is in the last",
    value: "days",
    fits: (field) => hasType(field, "date"),
    needs: ["$gte"],
    write: (days) => ({ $gte: ago(days) }),
    read: (condition) => daysOf(only("$gte")(condition)),
  },
  longerAgo: {
    label: "is longer ago than",
    value: "days",
    fits: (field) => hasType(field, "date"),
    needs: ["$lt"],
    write: (days) => ({ $lt: ago(days) }),
    read: (condition) => daysOf(only("$lt")(condition)),
  },
  notInLast: {
    label: "is never, or not in the last",
    value: "days",
    fits: (field) => hasType(field, "date"),
    needs: ["$gte"],
    write: (days) => ({ $not: { $gte: ago(days) } }),
    read: (condition) => daysOf(only("$gte")(only("$not")(condition))),
  },
  from: {
    label: "is on or after",
    value: "day",
    fits: isDate,
    needs: ["$gte"],
    write: (day, field) => ({ $gte: instant(day, field) }),
    read: (condition) => dayOf(only("$gte")(condition)),
  },
  before: {
    label: "is before",
    value: "day",
    fits: isDate,
    needs: ["$lt"],
    write: (day, field) => ({ $lt: instant(day, field) }),
    read: (condition) => dayOf(only("$lt")(condition)),
  },
  during: {
    label: "is from … to",
    value: "period",
    fits: isDate,
    needs: ["$gte", "$lt"],
    write: ([first, last], field) => ({ $gte: instant(first, field), $lt: instant(dayAfter(last), field) }),
    read: (condition) => {
      const days = keysAre(condition, "$gte", "$lt") ? [dayOf(condition.$gte), dayOf(condition.$lt)] : [];
      return days.length && days.every(Boolean) ? [days[0], dayBefore(days[1])] : undefined;
    },
  },
  anniversary: {
    label: "has its anniversary in the next",
    value: "days",
    fits: isDate,
    needs: ["$anniversary"],
    write: (days) => ({ $anniversary: { from: 0, to: days } }),
    read: (condition) => {
      const days = only("$anniversary")(condition);
      return keysAre(days, "from", "to") && days.from === 0 ? days.to : undefined;
    },
  },
  is: {
    label: "is",
    value: "boolean",
    fits: isBoolean,
    needs: ["$eq"],
    write: (value) => value,
    read: (condition) => (typeof condition === "boolean" ? condition : undefined),
  },
  contains: text("$containsText", "contains"),
  notContains: text("$containsText", "does not contain", true),
  startsWith: text("$startsWithText", "starts with"),
  endsWith: text("$endsWithText", "ends with"),
  nearCity: {
    label: "is near the city",
    value: "city",
    fits: (field) => isText(field) && /city|town/i.test(field.path),
    needs: ["$nearCity"],
    write: ({ id, kilometers, country }) => ({ $nearCity: country ? { id, kilometers, country } : { id, kilometers } }),
    read: (condition) => {
      const near = only("$nearCity")(condition);
      const known = keysAre(near, "id", "kilometers") || keysAre(near, "id", "kilometers", "country");
      return known ? { ...near, name: near.id } : undefined;
    },
  },
  hasValue: {
    label: "has a value",
    value: "none",
    fits: () => true,
    needs: ["$nin"],
    write: (_, field) => ({ $nin: emptyValues(field) }),
    read: (condition, field) => (isSame(condition, { $nin: emptyValues(field) }) ? true : undefined),
  },
  hasNoValue: {
    label: "is empty or missing",
    value: "none",
    fits: () => true,
    needs: ["$in"],
    write: (_, field) => ({ $in: emptyValues(field) }),
    read: (condition, field) => (isSame(condition, { $in: emptyValues(field) }) ? true : undefined),
  },
};

/** The names of the operators that fit a field. */
export function operatorsOf(field) {
  return Object.keys(OPERATORS).filter((name) => {
    const { fits, needs } = OPERATORS[name];
    return fits(field) && needs.every((needed) => field.operators.includes(needed));
  });
}

export function operatorLabel(name, field) {
  const { label } = OPERATORS[name];
  return typeof label === "function" ? label(field) : label;
}

/** The value of an operator that has none yet. */
export function emptyValue(name) {
  return { values: [], numbers: [null, null], period: ["", ""], none: true, boolean: true, days: 30, number: null, city: null }[OPERATORS[name].value] ?? "";
}

/** What a value lacks, as an instruction; empty if it is complete. */
export function lackOf(name, value) {
  switch (OPERATORS[name].value) {
    case "values":
      return value.length ? "" : "Choose a value, or write one and add it.";
    case "number":
      return typeof value === "number" ? "" : "Enter a number.";
    case "numbers":
      if (value.some((each) => typeof each !== "number")) return "Enter both numbers.";
      return value[0] <= value[1] ? "" : "The first number is larger than the second; exchange them.";
    case "days":
      return Number.isInteger(value) && value >= 0 ? "" : "Enter a whole number of days.";
    case "day":
      return value ? "" : "Choose a day.";
    case "period":
      if (!value.every(Boolean)) return "Choose both days.";
      return value[0] <= value[1] ? "" : "The first day is after the last; exchange them.";
    case "text":
      return value ? "" : "Enter a text.";
    case "city":
      return value?.id && value.kilometers > 0 ? "" : "Search a city, choose it, and enter a distance.";
    default:
      return "";
  }
}
