const form = document.querySelector("form");
const output = document.querySelector("output");

form.addEventListener("submit", (event) => {
  event.preventDefault();
  output.textContent = "";
  const port = chrome.runtime.connect();
  let events = "";
  port.onMessage.addListener((text) => {
    events += text;
    const chunks = [...events.matchAll(/^data: (\{.*\})$/gm)].map(([, json]) => JSON.parse(json));
    output.textContent = chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
    output.ariaBusy = String(!events.includes("data: [DONE]"));
  });
  port.postMessage(new FormData(form).get("question"));
});
