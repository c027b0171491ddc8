namespace tokenworks::cli {
int run(int argc, char** argv);
}

int main(int argc, char** argv) { return tokenworks::cli::run(argc, argv); }
