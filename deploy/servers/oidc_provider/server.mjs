// An OpenID provider for tests. Arguments: the port, and a file of what it does: {"keys": [JWK, …], "roles": {subject:
// [role, …]}}, read again by POST /control. Everybody signs in by name with any password.

import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import Provider from 'oidc-provider';

const [port, file] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
let roles;
let provider;

function begin() {
  const wanted = JSON.parse(readFileSync(file, 'utf8'));
  roles = wanted.roles;
  provider = new Provider(issuer, {
    clients: [
      {
        client_id: 'machine', client_secret: 'machine-secret', grant_types: ['client_credentials'],
        redirect_uris: [], response_types: [],
      },
      {
        client_id: 'web', token_endpoint_auth_method: 'none', grant_types: ['authorization_code', 'refresh_token'],
        redirect_uris: ['http://127.0.0.1/callback'], response_types: ['code'], application_type: 'native',
      },
    ],
    jwks: { keys: wanted.keys },
    pkce: { required: () => true },
    issueRefreshToken: (_, client) => client.grantTypeAllowed('refresh_token'),
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    extraTokenClaims: (_, token) => ({ roles: roles[token.accountId ?? token.clientId] ?? [] }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:voltstream',
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'stations:read sessions:read', audience: 'voltstream', accessTokenFormat: 'jwt', accessTokenTTL: 600,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    cookies: { keys: ['only for tests'] },
  });
}

begin();
createServer((request, response) => {
  if (request.method === 'POST' && request.url === '/control') {
    begin();
    response.end();
  } else {
    provider.callback()(request, response);
  }
}).listen(Number(port), '127.0.0.1');
