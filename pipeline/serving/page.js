"use strict";
const form = document.querySelector("form");
const fields = [...form.querySelectorAll("textarea")];
const button = form.querySelector("button");
const result = document.querySelector("#result");
const json = document.querySelector("#json");
const state = document.querySelector("#state");

function input() {
  if (fields.length === 1) return fields[0].value;
  return Object.fromEntries(fields.map((field) => [field.name, field.value]));
}

function showError(text) {
  const line = document.createElement("p");
  line.className = "error";
  line.setAttribute("role", "alert");
  line.textContent = text;
  result.replaceChildren(line);
  json.closest("details").hidden = true;
}

async function predict(event) {
  event.preventDefault();
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  state.textContent = "predicting ...";
  const start = performance.now();
  try {
    const answer = await fetch("view", {
      method: "POST",
      headers: {"Content-Type": "application/json"},
      body: JSON.stringify({input: input()}),
    });
    const body = await answer.json();
    if (answer.ok) {
      result.innerHTML = body.html;
      json.textContent = JSON.stringify(body.prediction, null, 1);
      json.closest("details").hidden = false;
    } else {
      showError(body.error);
    }
    state.textContent = `${Math.round(performance.now() - start)} ms`;
  } catch (error) {
    showError("The server does not respond. Is it running?");
    state.textContent = "";
  }
  button.removeAttribute("aria-disabled");
}

form.addEventListener("submit", predict);
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
