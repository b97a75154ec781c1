"use strict";

/* What Python has put into the page for its scripts. */
function pageData(name) {
  return JSON.parse(document.getElementById("data-" + name).textContent);
}

/* An array of numbers that Python has packed as base64. */
function unpacked(text, Type) {
  return new Type(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);
}

/* An element with its attributes and children; texts stay texts. */
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/* Let the browser save a text as a file. */
function saveFile(name, text) {
  const link = element("a", { download: name, href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/* Rows of cells as CSV, quoted where that is needed. */
function csvText(rows) {
  const cell = (value) => (/[",\r\n]/.test(value) ? '"' + value.replaceAll('"', '""') + '"' : value);
  return rows.map((row) => row.map((value) => cell(String(value))).join(",") + "\n").join("");
}
