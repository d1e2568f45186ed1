// A real provider of OpenID Connect for the browser tests. PEOPLE is a file of JSON, read at each
// question, so that a test changes who is in which group: {"kim": {"groups": [], "amr": []}}.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const { PORT, PEOPLE, REGISTRY } = process.env;
const people = () => JSON.parse(readFileSync(PEOPLE, "utf8"));

const provider = new Provider(`http://127.0.0.1:${PORT}`, {
  clients: [
    {
      client_id: "authsite",
      client_secret: "the-secret-of-this-client",
      redirect_uris: [`${REGISTRY}/admin/sign-on/callback/`],
      post_logout_redirect_uris: [`${REGISTRY}/admin/sign-on/signed-out/`],
      backchannel_logout_uri: `${REGISTRY}/admin/sign-on/back-channel-logout/`,
      grant_types: ["authorization_code"],
      response_types: ["code"],
    },
  ],
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"] },
  acrValues: ["strong"],
  // It calls no address of this machine, unless its own dispatcher is left out.
  fetch: (address, options) => globalThis.fetch(address, { ...options, dispatcher: undefined }),
  cookies: { keys: ["a key of tests"] },
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      preferred_username: id.replace("subject-of-", ""),
      groups: people()[id.replace("subject-of-", "")].groups,
    }),
  }),
  // Nobody is asked whether the registry may know a name: the company decided that.
  loadExistingGrant: async (context) => {
    const { provider, client, session } = context.oidc;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope("openid profile");
    await grant.save();
    return grant;
  },
});

const answer = provider.callback();

createServer(async (request, response) => {
  if (!request.url.startsWith("/interaction/")) return answer(request, response);
  if (request.method === "GET") {
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.end(`<!doctype html><html lang="en"><title>Company</title><h1>Company</h1>
      <form method="post"><label>Name <input name="name" autofocus></label><button>Sign in</button></form>`);
    return;
  }
  let body = "";
  for await (const piece of request) body += piece;
  const name = new URLSearchParams(body).get("name");
  const { amr, acr } = people()[name];
  await provider.interactionFinished(
    request,
    response,
    { login: { accountId: `subject-of-${name}`, amr, acr } },
    { mergeWithLastSubmission: false },
  );
}).listen(Number(PORT), "127.0.0.1", () => console.log("ready"));
