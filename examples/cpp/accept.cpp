// An exact Markov chain of |m| from the draws of a pool, with random numbers and an accept step of its own.
//
//     latticediff propose phi4-A-L16 --n 10000 --out pool.bin
//     g++ -O2 -std=c++17 accept.cpp -o accept && ./accept pool.bin 1
//
// The header is lines of a name, a blank and a value up to `end`; records of S, log_q, phi (C order), float64,
// little-endian, begin at byte `header_bytes`. Every draw is used once: the number of used ones is kept in the header.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace {

[[noreturn]] void refuse(const std::string &said) {
    std::cerr << "error: " << said << "\n";
    std::exit(2);
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 3) refuse("expected POOL.bin SEED");
    const std::string path = argv[1];
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    if (!file) refuse(path + " cannot be opened for reading and writing");

    std::map<std::string, std::string> header;
    std::streamoff consumed_at = -1;
    for (std::string line; std::getline(file, line) && line != "end";) {
        const auto blank = line.find(' ');
        if (blank == std::string::npos) refuse(path + " is no pool");
        header[line.substr(0, blank)] = line.substr(blank + 1);
        if (line.rfind("consumed ", 0) == 0)
            consumed_at = static_cast<std::streamoff>(file.tellg()) - 1 - 20;  // twenty digits before the line's end
    }
    if (header["latticediff-pool"] != "1" || header["dtype"] != "<f8" || consumed_at < 0)
        refuse(path + " is no pool of version 1 in little-endian float64");
    const auto n = std::stoull(header["n"]), used = std::stoull(header["consumed"]);
    const auto start = std::stoull(header["header_bytes"]);
    if (used != 0) refuse(path + ": " + std::to_string(used) + " of its draws have been used; propose others");

    std::size_t volume = 1;
    std::istringstream extents(header["shape"]);
    for (std::size_t extent; extents >> extent;) volume *= extent;

    // on disk before the first draw is used: a draw may be lost, and never counts twice
    char digits[21];
    std::snprintf(digits, sizeof digits, "%020llu", n);
    file.clear();
    file.seekp(consumed_at).write(digits, 20).flush();
    if (!file) refuse(path + " cannot be marked as used");

    std::mt19937_64 random(std::stoull(argv[2]));
    std::uniform_real_distribution<double> uniform(0.0, 1.0);
    std::vector<double> record(2 + volume);
    file.seekg(static_cast<std::streamoff>(start));

    const double nothing = -INFINITY;  // before the first draw, which is taken as it is
    double log_w = nothing, abs_m = 0.0, phi2 = 0.0, sum_m = 0.0, sum_phi2 = 0.0;
    unsigned long long accepted = 0;
    for (unsigned long long i = 0; i < n; ++i) {
        if (!file.read(reinterpret_cast<char *>(record.data()), static_cast<std::streamsize>(8 * record.size())))
            refuse(path + " is truncated");
        const double fresh = -record[0] - record[1];  // log w = -S - log_q
        if (std::isnan(fresh)) refuse(path + " is damaged");
        if (log_w == nothing || std::log(uniform(random)) < fresh - log_w) {
            double m = 0.0, square = 0.0;
            for (std::size_t x = 0; x < volume; ++x) {
                m += record[2 + x];
                square += record[2 + x] * record[2 + x];
            }
            log_w = fresh;
            abs_m = std::fabs(m) / static_cast<double>(volume);
            phi2 = square / static_cast<double>(volume);
            accepted += i > 0;
        }
        sum_m += abs_m;
        sum_phi2 += phi2;
    }
    std::printf("n %llu\nacceptance %.6f\nabs_m %.8f\nphi2 %.8f\n", n, static_cast<double>(accepted) / static_cast<double>(n - 1),
                sum_m / static_cast<double>(n), sum_phi2 / static_cast<double>(n));
}
