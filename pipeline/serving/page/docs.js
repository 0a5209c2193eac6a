"use strict";
// Swagger UI of /openapi.json, with the API key that the first page stores.

const key = sessionStorage.getItem("bertline key");
const dark = matchMedia("(prefers-color-scheme: dark)");

function shade() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

dark.addEventListener("change", shade);
shade();

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
  requestInterceptor: (request) => {
    if (key) request.headers["X-API-Key"] = key;
    return request;
  },
  responseInterceptor: (response) => {
    if (response.status === 401) document.getElementById("problem").hidden = false;
    return response;
  },
});
