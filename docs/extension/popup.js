const form = document.querySelector("form");
const output = document.querySelector("output");
const port = chrome.runtime.connect();

port.onMessage.addListener(({ text = "", done = false }) => {
  output.append(text);
  if (done) output.ariaBusy = "false";
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  output.textContent = "";
  output.ariaBusy = "true";
  port.postMessage(new FormData(form).get("question"));
});
