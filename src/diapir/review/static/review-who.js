// The field for the name that goes with what a person does, wherever she does it.
import { setWho, who } from "./review-api.js";
import { make } from "./shell.js";

export function whoField() {
  const name = make("input", { id: "review-who", maxlength: 80, autocomplete: "name", value: who(), onchange: () => setWho(name.value) });
  return [make("label", { for: "review-who", text: "Your name" }), name];
}
